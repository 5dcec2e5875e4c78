"""The plan of a restore to a Forgejo: the same words as for Bitbucket, other requests."""
