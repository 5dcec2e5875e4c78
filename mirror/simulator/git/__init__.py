"""The simulated git and Git LFS servers."""
