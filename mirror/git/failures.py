"""The errors of git operations: with a git server, or inside a mirror.

    GitFailed (MirrorError, 1)
    ├── GitNotFound              no such repository, or hidden from this credential
    ├── GitForbidden             the credential may not read this one
    └── GitTooLarge              the server refuses a request of this size
    GitUnauthorized (12)         the credential itself was refused
    GitUnreachable (75)          the network, or a server in trouble: try again later

Workers send them to their parent, so each must be picklable.
"""

from __future__ import annotations

from mirror.errors import CredentialRefused, MirrorError, TryLater


class GitFailed(MirrorError):
    """A git operation failed for good."""


class GitNotFound(GitFailed):
    """The repository does not exist, or the server hides it from this credential."""


class GitForbidden(GitFailed):
    """The credential is valid but may not read this repository."""


class GitTooLarge(GitFailed):
    """The server refuses a request of this size."""


class GitUnauthorized(CredentialRefused):
    """The git server refused the credential."""


class GitUnreachable(TryLater):
    """The git server could not be reached, broke off the connection, or asked to try again later."""
