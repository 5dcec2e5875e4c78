"""What can be wrong with a store."""

from __future__ import annotations

from mirror.errors import DamageFound, MirrorError


class StoreDamaged(DamageFound):
    """A file of the store cannot be read for what it should be.

    `file` is its path relative to the store; `problem` says what is wrong, without the path.
    """

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(
            f"{file} is damaged: {problem}",
            hint="run mirror verify to see how far it goes; bring the file back from a copy of the store",
        )
        self.file = file
        self.problem = problem

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str]]:
        return StoreDamaged, (self.file, self.problem)


class Malformed(ValueError):
    """A JSON value is not of the form that the store writes."""


class StoreTooNew(MirrorError):
    """The store was written by a newer program and needs things that this one does not know."""
