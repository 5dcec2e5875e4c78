"""Bringing the documents of a repository or workspace up to date, as cheaply as Bitbucket allows."""
