"""The API of a Forgejo: its URLs and field names, as far as a restore needs them.

The facts are from Forgejo's published description of its API and from its source, of version 12; Gitea's is
much the same. No server of either was at hand: see docs/restore.md for what this was proven against.
"""
