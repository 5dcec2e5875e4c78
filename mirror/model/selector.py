"""SELECTOR: the repositories that a command applies to."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from mirror.errors import UsageError


@dataclass(frozen=True)
class Selector:
    """`workspace`, `workspace/repository`, or a glob of that.

    The folder name (`slug~1a2b3c4d`) of a repository also works, and distinguishes two with the same name. A
    selector without a slash matches the whole workspace.
    """

    workspace: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse a selector. Raises UsageError."""
        workspace, slash, repository = text.strip().partition("/")
        if not workspace or (slash and not repository) or "/" in repository:
            raise UsageError(
                f"{text!r} is not a selector",
                hint="write workspace, workspace/repository, or a glob such as 'acme/web-*'",
            )
        return cls(workspace.lower(), repository.lower() if slash else None)

    @property
    def is_exact(self) -> bool:
        """Whether it names a single repository."""
        return self.repository is not None and not self.is_glob

    @property
    def is_glob(self) -> bool:
        """Whether it has signs that stand for any others."""
        return any(sign in self.workspace + (self.repository or "") for sign in "*?[")

    def matches_workspace(self, *names: str) -> bool:
        """Whether it matches one of the names of a workspace (slug, uuid, folder)."""
        return any(fnmatchcase(name.lower(), self.workspace) for name in names)

    def matches_repository(self, *names: str) -> bool:
        """Whether it matches one of the names of a repository (slug, folder), if its workspace matches."""
        if self.repository is None:
            return True
        return any(fnmatchcase(name.lower(), self.repository) for name in names)

    def __str__(self) -> str:
        return self.workspace if self.repository is None else f"{self.workspace}/{self.repository}"
