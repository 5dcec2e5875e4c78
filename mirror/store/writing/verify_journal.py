"""How far a verification is, so that one that was stopped can go on; and what was verified when.

A cache: where it is lost, everything is verified again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from mirror.fs.durable import make_folder, write_file
from mirror.model import JsonObject, NotCanonical, Verified, dumps, loads, time_from_text, time_text
from mirror.store.format import layout

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
        self._times = self._known_times()
        if began is None:
            self._keep_times()
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
        return self._times

    def note(self, done: Verified) -> None:
        """Keep what was found of a folder."""
        with (self._path / layout.VERIFYING).open("ab") as stream:
            stream.write(_line(done.to_json()))
        self._times[done.place] = done.at

    def finish(self) -> None:
        """The verification has come to its end."""
        self._keep_times()
        (self._path / layout.VERIFYING).unlink(missing_ok=True)

    def _known_times(self) -> dict[str, datetime]:
        """When each folder was last verified, also by the verification whose journal is there."""
        times: dict[str, datetime] = {}
        with contextlib.suppress(OSError, NotCanonical, KeyError, TypeError, AttributeError, ValueError):
            known = loads((self._path / layout.VERIFIED).read_bytes())
            times = {str(place): time_from_text(when) for place, when in known["folders"].items()}
        _, _, done = self._parse()
        return {**times, **{place: one.at for place, one in done.items()}}

    def _keep_times(self) -> None:
        """Write the times once for a whole verification: the journal holds them until then."""
        content = {"schema": 1, "folders": {place: time_text(when) for place, when in self._times.items()}}
        write_file(self._path / layout.VERIFIED, dumps(content))

    def _read(self, key: str | None, now: datetime) -> tuple[datetime | None, dict[str, Verified]]:
        """When the journal that is there began and what it holds; None where it is not to be used."""
        known, began, done = self._parse()
        if key is None or began is None or known != key or not timedelta() <= now - began <= GOES_ON_FOR:
            return None, {}
        return began, done

    def _parse(self) -> tuple[str | None, datetime | None, dict[str, Verified]]:
        """The journal that is there: its key, when it began, and what it holds."""
        key, began = None, None
        done: dict[str, Verified] = {}
        with contextlib.suppress(OSError, NotCanonical, KeyError, TypeError, ValueError):
            first, *rest = (self._path / layout.VERIFYING).read_bytes().splitlines()
            header = loads(first)
            key, began = header["key"], time_from_text(header["began"])
            for line in rest:  # the last one may be cut
                found = Verified.from_json(loads(line))
                done[found.place] = found
        return key, began, done


def _line(value: JsonObject) -> bytes:
    """One line of JSON."""
    return b" ".join(part.strip() for part in dumps(value).splitlines()) + b"\n"
