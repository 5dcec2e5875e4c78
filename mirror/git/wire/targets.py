"""The repository that refs are pushed to: a git server over HTTP, or a repository on this machine.

`send` makes one push and returns the result of each ref; that a target takes no pack at all is an answer,
too. Only what concerns every push is raised: a refused credential, a target that is away.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from dulwich.client import LocalGitClient
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import UnpackedObject
from dulwich.protocol import Protocol as Wire

from mirror.errors import CredentialRefused, MirrorError
from mirror.git.failures import GitFailed, GitForbidden, GitNotFound, GitTooLarge, GitUnreachable
from mirror.git.refs import read_head, write_head
from mirror.git.wire.client import GitLogin, HttpClient
from mirror.git.wire.fetch_pack import as_mirror_error, clean
from mirror.git.wire.outgoing import pack_data
from mirror.git.workers.job import OnProgress
from mirror.model import Head

ZERO = "0" * 40
# How servers say that what was sent is too much.
_TOO_MUCH = re.compile(r"exceed|too large|too big|maximum|size limit|quota|storage", re.IGNORECASE)
# Lines that tell how far the server is, and none of what it thinks.
_PROGRESS = re.compile(r"^[\w ]+: +\d+% \(|^(?:Enumerating|Counting|Unpacking|Resolving)\b.*(?:\d|done\.?)$")
_WORDS_MAX = 3


@dataclass(frozen=True)
class Outcome:
    """What became of one push.

    `refused`: why the target took nothing at all, in its own words; `is_too_large`: for the size of the
    pack, as far as it can be told; `is_damaged`: because something could not be read here. Else `declined`
    has the refs that it did not take, each with why. `words` are what the target printed.
    """

    declined: Mapping[bytes, str] = field(default_factory=dict)
    refused: str | None = None
    is_too_large: bool = False
    is_damaged: bool = False
    words: str = ""


class Target(Protocol):
    """Where refs are pushed to."""

    def refs(self) -> dict[bytes, str]:
        """The refs that there are. Raises the errors of `mirror.git.failures`."""
        ...

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> Outcome:
        """Point refs to objects of `store` (`ZERO` removes one), which are brought as far as they lack."""
        ...

    def head(self) -> Head | None:
        """What HEAD is there; None where it names a branch that is not there. Raises as `refs`."""
        ...

    def set_head(self, name: bytes) -> bool:
        """Make a branch the default one; whether that can be done from here."""
        ...


def target_of(url: str, login: GitLogin | None, silence_timeout: float) -> Target:
    """The target that a URL (http, https or file) means. Raises GitFailed."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return HttpTarget(url, login, silence_timeout)
    path = Path(unquote(parts.path))
    if not path.is_dir():
        raise GitFailed(f"{path} is not a repository; make one with `git init --bare`")
    return LocalTarget(path)


class _Damaged(Exception):
    """What was to be sent cannot be read."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever goes wrong while our own objects are read, as _Damaged."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except KeyError as error:
        name = error.args[0] if error.args else b""
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        raise _Damaged(f"the mirror lacks the object {text}") from error
    except Exception as error:
        raise _Damaged(f"an object of the mirror is damaged: {clean(str(error))}") from error


def _read_all(records: Iterator[UnpackedObject]) -> Iterator[UnpackedObject]:
    while True:
        with _reading():
            record = next(records, None)
        if record is None:
            return
        yield record


def _generator(store: DiskObjectStore, on_progress: OnProgress) -> Callable[..., Any]:
    """What dulwich calls to have a pack made. Raises _Damaged, then or while the pack is sent."""

    def generate(
        have: Iterable[ObjectID], want: Iterable[ObjectID], *, ofs_delta: bool = False, progress: Any = None
    ) -> Any:
        del ofs_delta, progress
        on_progress("packing")
        with _reading():
            count, records = pack_data(
                store, [one.decode("ascii") for one in want], [one.decode("ascii") for one in have]
            )
        return count, _read_all(records)

    return generate


def _ids(updates: Mapping[bytes, str]) -> dict[Any, ObjectID]:
    return {name: ObjectID(value.encode("ascii")) for name, value in updates.items()}


class LocalTarget:
    """A repository on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def _git(self) -> Path:
        return self._path if (self._path / "objects").is_dir() else self._path / ".git"

    def refs(self) -> dict[bytes, str]:
        """See Target."""
        try:
            found = LocalGitClient().get_refs(str(self._path)).refs
        except (OSError, MemoryError, MirrorError):
            raise
        except Exception as error:
            raise GitFailed(f"{self._path} is not a repository that can be read: {error}") from error
        return {bytes(name): value.decode("ascii") for name, value in found.items() if value}

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> Outcome:
        """See Target."""
        try:
            done = LocalGitClient().send_pack(
                str(self._path), lambda _: _ids(updates), _generator(store, progress)
            )
        except (OSError, MemoryError, MirrorError):
            raise
        except _Damaged as error:
            return Outcome(refused=str(error), is_damaged=True)
        except Exception as error:  # noqa: BLE001 - dulwich raises anything
            return Outcome(refused=f"{type(error).__name__}: {clean(str(error))}")
        status = done.ref_status or {}
        return Outcome({bytes(name): str(why) for name, why in status.items() if why is not None})

    def head(self) -> Head | None:
        """See Target."""
        found = read_head(self._git)
        return found if found is not None and found.kind != "unborn" else None

    def set_head(self, name: bytes) -> bool:
        """See Target. One with a work tree is left alone: its files would be another branch's."""
        if self._git != self._path:
            return False
        write_head(self._path, Head("symref", name))
        return True


class _Pushing(HttpClient):
    """Reads a target's report as it is: dulwich raises at the first thing it does not expect, and forgets
    every ref where the pack was not unpacked."""

    unpacked: str | None = None  # why the pack was not, in the report's words
    is_reported = False

    def _handle_receive_pack_tail(self, proto: Wire, capabilities: Any, progress: Any = None) -> Any:
        packets: Iterator[bytes | None]
        if b"side-band-64k" in capabilities:
            report = bytearray()
            for packet in proto.read_pkt_seq():
                channel, data = packet[:1], packet[1:]
                if channel == b"\1":
                    report += data
                elif channel == b"\2" and progress is not None:
                    progress(data)
                elif channel == b"\3":
                    raise GitFailed(f"the target failed: {clean(data.decode('utf-8', 'replace'))}")
            packets = iter(_packets(bytes(report)))
        else:
            packets = iter(proto.read_pkt_seq())
        if b"report-status" not in capabilities:
            return {}
        return self._report(line.strip() for line in packets if line)

    def _report(self, lines: Iterator[bytes]) -> dict[bytes, str | None]:
        self.is_reported = True
        result: dict[bytes, str | None] = {}
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"unpack":
                text = clean(rest.decode("utf-8", "replace"))
                self.unpacked = None if text == "ok" else text
            elif word == b"ok":
                result[rest] = None
            elif word == b"ng":
                name, _, why = rest.partition(b" ")
                result[name] = clean(why.decode("utf-8", "replace")) or "no reason given"
        return result


def _packets(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        try:
            size = int(data[at : at + 4], 16)
        except ValueError:
            return
        if size < 4:
            return
        yield data[at + 4 : at + size]
        at += size


class HttpTarget:
    """A git server."""

    def __init__(self, url: str, login: GitLogin | None, silence_timeout: float) -> None:
        self._url = url
        self._login = login
        self._silence = silence_timeout

    def _client(self) -> _Pushing:
        return _Pushing(self._url, login=self._login, silence_timeout=self._silence)

    def refs(self) -> dict[bytes, str]:
        """See Target."""
        client = self._client()
        try:
            found = client._discover_references(b"git-receive-pack", client._get_url(""))[0]
        except (MirrorError, OSError, MemoryError):
            raise
        except Exception as error:
            raise as_mirror_error(error) from error
        return {
            bytes(name): value.decode("ascii")
            for name, value in found.items()
            if value and name.startswith(b"refs/") and not name.endswith(b"^{}")
        }

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> Outcome:
        """See Target."""
        client, lines = self._client(), bytearray()

        def on_sideband(data: bytes) -> None:
            lines.extend(data)
            progress(data.decode("utf-8", "replace").strip())

        try:
            done = client.send_pack("", lambda _: _ids(updates), _generator(store, progress), on_sideband)
        except (CredentialRefused, GitForbidden, GitNotFound, OSError, MemoryError):
            raise
        except _Damaged as error:
            return Outcome(refused=str(error), is_damaged=True)
        except Exception as error:  # noqa: BLE001 - dulwich raises anything
            fault, words = as_mirror_error(error), _words(lines)
            assert isinstance(fault, MirrorError)
            if isinstance(fault, GitUnreachable):
                self.refs()  # raises where it is away; one that is there broke off for the sake of the pack
            is_too_large = isinstance(fault, GitTooLarge | GitUnreachable) or _is_too_much(words)
            return Outcome(refused=_joined(fault.message, words), is_too_large=is_too_large, words=words)
        words = _words(lines)
        if client.unpacked is not None:
            text = _joined(f"it did not take the pack: {client.unpacked}", words)
            return Outcome(refused=text, is_too_large=_is_too_much(text), words=words)
        status = done.ref_status or {}
        declined = {bytes(name): str(why) for name, why in status.items() if why is not None}
        if client.is_reported:
            declined |= {name: "the target says nothing of it" for name in updates if name not in status}
        return Outcome(declined, words=words)

    def head(self) -> Head | None:
        """See Target."""
        client = HttpClient(self._url, login=self._login, silence_timeout=self._silence)
        try:
            found = client.list_refs()
        except (MirrorError, OSError, MemoryError):
            raise
        except Exception as error:
            raise as_mirror_error(error) from error
        head = found.head if found is not None else None
        return head if head is not None and head.kind != "unborn" else None

    def set_head(self, name: bytes) -> bool:
        """See Target. The protocol has no way."""
        del name
        return False


def _words(lines: bytearray) -> str:
    """What a target printed, but how far it was: the first lines, those of an error before others."""
    found = [line.strip() for line in re.split(r"[\r\n]+", lines.decode("utf-8", "replace"))]
    said = [clean(line) for line in found if line and not _PROGRESS.match(line)]
    said.sort(key=lambda line: not re.match("fatal|error", line, re.IGNORECASE))
    return "; ".join(dict.fromkeys(said[:_WORDS_MAX]))


def _joined(text: str, words: str) -> str:
    return f"{text} ({words})" if words and words not in text else text


def _is_too_much(text: str) -> bool:
    return _TOO_MUCH.search(text) is not None
