"""Mirror: backs up a whole Bitbucket Cloud workspace, and brings it back."""

__version__ = "0.9.1"
