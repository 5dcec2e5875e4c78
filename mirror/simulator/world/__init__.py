"""What the simulated Bitbucket holds."""
