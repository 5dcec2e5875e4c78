"""The journal of a restore: what was sent and its outcome, written before and after each request.

One file for each snapshot and target. A line is the first 16 digits of the sha256 of its JSON, a space and
the JSON. It is fsynced before the program goes on. A last line that is torn was never acted upon. No line
holds a secret: only ids that later steps need.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mirror.errors import Locked, MirrorError, UsageError
from mirror.fs.durable import sync_folder, sync_stream
from mirror.model import Json, JsonObject

VERSION = 1
_SUM = 16


class JournalDamaged(MirrorError):
    """A journal that cannot be trusted, or read. Nothing was sent."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path}, line {line}: the journal of an earlier restore is of no use: {why}",
            hint="remove the file: what that restore made is then found at the target, and not made again",
        )


class Is(StrEnum):
    """How a step stands."""

    SENDING = "sending"  # nobody knows yet whether it was made
    MADE = "made"
    CHANGING = "changing"  # it was there before; whether it was changed is not known
    CHANGED = "changed"
    OPEN = "open"  # it was refused, or nothing was sent after all


@dataclass
class Noted:
    """What the journal knows of a step: how it stands, when (seconds since 1970) that was written, and the
    fields of the answer that later steps need, by their dotted names."""

    state: Is
    at: float
    answer: Mapping[str, Json] = field(default_factory=dict)


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where journals are kept: the systemd unit's state directory, else the user's. Raises UsageError where
    there is neither."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0]) / "restores"
    if given := environment.get("XDG_STATE_HOME"):
        return Path(given) / "mirror" / "restores"
    home = environment.get("HOME")
    if not home:
        raise UsageError(
            "there is no place for the journal of this restore",
            hint="set XDG_STATE_HOME to a folder that you can write to",
        )
    return Path(home) / ".local" / "state" / "mirror" / "restores"


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock on the journals in `folder`, which the kernel releases when the process ends. Raises
    Locked where another restore has it; `what` names it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Locked(f"{what} is running already", hint="wait until it ends; it goes on by itself") from None
    finally:
        os.close(descriptor)


class Journal:
    """The journal at `path`, which belongs to `identity`; for one process at a time. The file is made when
    the first line is written. Raises JournalDamaged and OSError where what is there cannot be read."""

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self._identity = {"journal": VERSION, **identity}
        self._noted: dict[str, Noted] = {}
        # How much of the file is whole lines.
        self._size = 0
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, 1):
            self._read(number, line)
            self._size += len(line) + 1

    def _read(self, number: int, line: bytes) -> None:
        checksum, _, text = line.partition(b" ")
        if _checksum(text) != checksum:
            raise JournalDamaged(self.path, number, "a line does not match its checksum")
        try:
            data = json.loads(text)
            if number == 1:
                if data.get("journal", VERSION) != VERSION:
                    raise JournalDamaged(self.path, number, "another version of this program wrote it")
                if data != self._identity:
                    raise JournalDamaged(self.path, number, "it belongs to another restore")
                return
            state, at, answer = Is(data["is"]), float(data["at"]), dict(data.get("answer", {}))
            self._noted[str(data["step"])] = Noted(state, at, answer)
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(self.path, number, f"{type(error).__name__}: {error}") from None

    def noted(self, step: str) -> Noted | None:
        """What is known of a step; None where it has to begin anew."""
        found = self._noted.get(step)
        return None if found is None or found.state in (Is.OPEN, Is.CHANGING) else found

    @property
    def steps(self) -> list[str]:
        """The keys of all steps that something is known of."""
        return [key for key in self._noted if self.noted(key) is not None]

    def note(self, step: str, state: Is, at: float, answer: Mapping[str, Json] | None = None) -> None:
        """Write how a step stands, and return when that is on the disk. Raises OSError."""
        self._noted[step] = Noted(state, at, answer or {})
        self._write(
            {"step": step, "is": str(state), "at": at, **({"answer": dict(answer)} if answer else {})}
        )

    def remove(self) -> None:
        """Remove the file: the restore is done, and a later one meets whatever exists then."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _write(self, data: JsonObject) -> None:
        text = b"" if self._size else _line(self._identity)
        text += _line(data)
        is_new = not self.path.exists()
        try:
            with self.path.open("xb" if is_new else "r+b") as stream:
                stream.seek(self._size)
                stream.truncate()
                stream.write(text)
                sync_stream(stream)
        except OSError as error:  # that of a full disk names no file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if is_new:
            sync_folder(self.path.parent)
        self._size += len(text)


def _line(data: Mapping[str, Json]) -> bytes:
    text = json.dumps(data, sort_keys=True, ensure_ascii=True).encode("ascii")
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_SUM].encode("ascii")
