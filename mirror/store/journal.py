"""How far a verification is, so that one that was stopped can go on; and what was verified when.

A cache: where it is lost, everything is verified again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from mirror.model import JsonObject, NotCanonical, Verified, dumps, loads, time_from_text, time_text
from mirror.store import layout
from mirror.store.disk import make_folder, write_file

# What was found so long ago says nothing about today.
GOES_ON_FOR = timedelta(days=7)


class VerifyJournal:
    """The journal of one verification of the store at `path`.

    `key` tells what is verified (level, selectors, share): only the same is gone on with, and only
    where `resume` is asked for. Raises OSError where the store cannot be written to.
    """

    def __init__(self, path: Path, key: str, *, resume: bool, now: datetime) -> None:
        self._path = path
        make_folder(path / layout.CACHE)
        began, done = self._read(key if resume else None, now)
        self._began = began
        self._done = done
        if began is None:
            header = {"key": key, "began": time_text(now)}
            write_file(path / layout.VERIFYING, _line(header))

    def begun(self) -> datetime | None:
        """When the verification began that is gone on with; None for a new one."""
        return self._began

    def done(self) -> Mapping[str, Verified]:
        """What it has been through already, by place."""
        return self._done

    def last(self) -> Mapping[str, datetime]:
        """When each folder was last verified, by place."""
        try:
            known = loads((self._path / layout.VERIFIED).read_bytes())
            return {str(place): time_from_text(when) for place, when in known["folders"].items()}
        except (OSError, NotCanonical, KeyError, TypeError, AttributeError, ValueError):
            return {}

    def note(self, done: Verified) -> None:
        """Keep what was found of a folder."""
        with (self._path / layout.VERIFYING).open("ab") as stream:
            stream.write(_line(done.to_json()))
        times = {**self.last(), done.place: done.at}
        content = {"schema": 1, "folders": {place: time_text(when) for place, when in times.items()}}
        write_file(self._path / layout.VERIFIED, dumps(content))

    def finish(self) -> None:
        """The verification has come to its end."""
        (self._path / layout.VERIFYING).unlink(missing_ok=True)

    def _read(self, key: str | None, now: datetime) -> tuple[datetime | None, dict[str, Verified]]:
        """When the journal that is there began and what it holds; None where it is not to be used."""
        done: dict[str, Verified] = {}
        began = None
        with contextlib.suppress(OSError, NotCanonical, KeyError, TypeError, ValueError):
            first, *rest = (self._path / layout.VERIFYING).read_bytes().splitlines()
            header = loads(first)
            began = time_from_text(header["began"])
            if key is None or header["key"] != key or now - began > GOES_ON_FOR:
                return None, {}
            for line in rest:  # the last one may be cut
                found = Verified.from_json(loads(line))
                done[found.place] = found
        return began, done


def _line(value: JsonObject) -> bytes:
    """One line of JSON."""
    return b" ".join(part.strip() for part in dumps(value).splitlines()) + b"\n"
