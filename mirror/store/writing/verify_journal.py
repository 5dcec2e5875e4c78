"""The progress of a verification, so that it can be resumed, and when each folder was last verified.

A cache: if it is lost, everything is verified again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from mirror.fs.durable import make_folder, write_file
from mirror.model import JsonObject, NotCanonical, Verified, dumps, loads, time_from_text, time_text
from mirror.store.format import layout

# Older results are not resumed.
RESUMABLE_FOR = timedelta(days=7)


class VerifyJournal:
    """The journal of one verification of the store at `path`.

    `key` identifies what is verified (level, selectors, share). With `resume`, an unfinished verification
    with the same key is resumed. Raises OSError where the store cannot be written.
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
        """When the resumed verification began; None for a new one."""
        return self._began

    def done(self) -> Mapping[str, Verified]:
        """The folders that were verified already, by place."""
        return self._done

    def last(self) -> Mapping[str, datetime]:
        """When each folder was last verified, by place."""
        return self._times

    def note(self, done: Verified) -> None:
        """Store the result for a folder."""
        with (self._path / layout.VERIFYING).open("ab") as stream:
            stream.write(_line(done.to_json()))
        self._times[done.place] = done.at

    def finish(self) -> None:
        """The verification is complete: remove the journal."""
        self._keep_times()
        (self._path / layout.VERIFYING).unlink(missing_ok=True)

    def _known_times(self) -> dict[str, datetime]:
        """When each folder was last verified, including by an unfinished verification."""
        times: dict[str, datetime] = {}
        with contextlib.suppress(OSError, NotCanonical, KeyError, TypeError, AttributeError, ValueError):
            known = loads((self._path / layout.VERIFIED).read_bytes())
            times = {str(place): time_from_text(when) for place, when in known["folders"].items()}
        _, _, done = self._parse()
        return {**times, **{place: one.at for place, one in done.items()}}

    def _keep_times(self) -> None:
        """Write the times; during a verification the journal has them."""
        content = {"schema": 1, "folders": {place: time_text(when) for place, when in self._times.items()}}
        write_file(self._path / layout.VERIFIED, dumps(content))

    def _read(self, key: str | None, now: datetime) -> tuple[datetime | None, dict[str, Verified]]:
        """When the journal to resume began, and its results; None where there is none to resume."""
        known, began, done = self._parse()
        if key is None or began is None or known != key or not timedelta() <= now - began <= RESUMABLE_FOR:
            return None, {}
        return began, done

    def _parse(self) -> tuple[str | None, datetime | None, dict[str, Verified]]:
        """The existing journal: its key, when it began, and its results."""
        key, began = None, None
        done: dict[str, Verified] = {}
        with contextlib.suppress(OSError, NotCanonical, KeyError, TypeError, ValueError):
            first, *rest = (self._path / layout.VERIFYING).read_bytes().splitlines()
            header = loads(first)
            key, began = header["key"], time_from_text(header["began"])
            for line in rest:  # the last line may be incomplete
                found = Verified.from_json(loads(line))
                done[found.place] = found
        return key, began, done


def _line(value: JsonObject) -> bytes:
    """One line of JSON."""
    return b" ".join(part.strip() for part in dumps(value).splitlines()) + b"\n"
