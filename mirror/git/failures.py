"""What can go wrong between us and a git server, or inside a mirror.

    GitFailed (MirrorError, 1)
    ├── GitNotFound              no such repository, or not for this credential
    ├── GitForbidden             the credential may not read this one
    └── GitTooLarge              the server takes no request of this size
    GitUnauthorized (12)         the credential itself was refused
    GitUnreachable (75)          the network, or a server in trouble: try again later

They travel from worker processes, so each must survive pickling.
"""

from __future__ import annotations

from mirror.errors import CredentialRefused, MirrorError, TryLater


class GitFailed(MirrorError):
    """A git operation failed for good."""


class GitNotFound(GitFailed):
    """The server knows no such repository, or hides it from this credential."""


class GitForbidden(GitFailed):
    """The credential is good, and may not read this repository."""


class GitTooLarge(GitFailed):
    """The server takes no request as large as this one."""


class GitUnauthorized(CredentialRefused):
    """The git server refused the credential."""


class GitUnreachable(TryLater):
    """The git server could not be reached, broke off, or asked to come back later."""
