"""The copies of a store in object storage, as its run records know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mirror.model import JsonObject, time_from_text, time_text
from mirror.model.words import counted
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.reading.run_history import RunHistory


@dataclass(frozen=True)
class CopyStatus:
    """The copy at the address `to`.

    `last` is the summary of the last run, its counts in `facts`; `last_good` is when the last one that exited
    with 0 ended; `covers` is the newest run record in the copy. Of all `folders` (repositories, workspaces)
    so many are `behind`: the copy lacks them, or has them only as they were earlier. `is_configured` None:
    there is no configuration. `late` says that it is too old for its schedule. `check` is the summary of the
    last check, its counts in `facts`; None where no check was recorded here.
    """

    to: str
    last: JsonObject | None = None
    last_good: datetime | None = None
    covers: str | None = None
    folders: int = 0
    behind: int = 0
    is_configured: bool | None = None
    late: str = ""
    check: JsonObject | None = None

    @property
    def is_made(self) -> bool:
        """Whether it was ever begun."""
        return self.last is not None

    @property
    def failure(self) -> str:
        """Why the last run was not good, in one line; empty where it was, or there was none."""
        if self.last is None or self.last["exit_code"] in (0, _STOPPED):
            return ""
        reason = next(iter(self.last["problems"]), "")
        return f"the last try ended with {self.last['exit_code']}" + (f": {reason}" if reason else "")

    @property
    def checked(self) -> datetime | None:
        """When it was last checked."""
        return time_from_text(self.check["ended"]) if self.check is not None else None

    @property
    def damage(self) -> str:
        """What the last check found, in one line; empty where that was nothing, or there was none."""
        if self.check is None or not self.check["exit_code"]:
            return ""
        many = counted(self.check["facts"].get("faults", 1), "faults")
        reason = next(iter(self.check["problems"]), "")
        return f"the check of {self.check['ended']} found {many}" + (f": {reason}" if reason else "")

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        good = time_text(self.last_good) if self.last_good is not None else None
        return {**self.__dict__, "last_good": good, "late": self.late or None}


_STOPPED = 130


def copies_of(history: RunHistory, folders: Sequence[AnyFolder]) -> tuple[CopyStatus, ...]:
    """The copies that run records know. `folders` are all of the store."""
    found = []
    behind = [lacking(history, one) for one in folders]
    for address, known in sorted(history.copies.items()):
        good = time_from_text(known.good) if known.good is not None else None
        number = sum(address in one for one in behind)
        if known.last is not None:  # nothing was sent from here to what was only checked
            found.append(
                CopyStatus(address, known.last, good, known.covers, len(folders), number, check=known.check)
            )
    return tuple(found)


def lacking(history: RunHistory, folder: AnyFolder) -> tuple[str, ...]:
    """The addresses of the copies that lack a folder as it is now, as far as records tell. No record vouches
    for what has none."""
    kind = "repository" if isinstance(folder, RepositoryFolder) else "workspace"
    known = history.find(kind, folder.uuid)
    return tuple(
        address
        for address, copy in history.copies.items()
        if known is None or copy.lacks(known.key, known.changed)
    )
