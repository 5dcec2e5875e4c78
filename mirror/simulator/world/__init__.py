"""The data of the simulated Bitbucket."""
