"""SELECTOR: which repositories a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from mirror.errors import UsageError


@dataclass(frozen=True)
class Selector:
    """`workspace`, `workspace/repository`, or a glob of that.

    A repository may also be given by its folder name (`slug~1a2b3c4d`), which tells two of the
    same name apart. A selector without a slash means the whole workspace.
    """

    workspace: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector from the command line. Raises UsageError where it has no meaning."""
        workspace, slash, repository = text.strip().partition("/")
        if not workspace or (slash and not repository) or "/" in repository:
            raise UsageError(
                f"{text!r} is not a selector",
                hint="write workspace, workspace/repository, or a glob such as 'acme/web-*'",
            )
        return cls(workspace.lower(), repository.lower() if slash else None)

    @property
    def is_exact(self) -> bool:
        """Whether it can mean one repository only."""
        return self.repository is not None and not any(
            sign in self.workspace + self.repository for sign in "*?["
        )

    def matches_workspace(self, *names: str) -> bool:
        """Whether one of a workspace's names (slug, uuid, folder) is meant."""
        return any(fnmatchcase(name.lower(), self.workspace) for name in names)

    def matches_repository(self, *names: str) -> bool:
        """Whether one of a repository's names (slug, folder) is meant, its workspace matching."""
        if self.repository is None:
            return True
        return any(fnmatchcase(name.lower(), self.repository) for name in names)

    def __str__(self) -> str:
        return self.workspace if self.repository is None else f"{self.workspace}/{self.repository}"
