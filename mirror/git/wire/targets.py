"""The target of a push: a git server over HTTP, or a repository on this machine.

`send` makes one push and returns the result of each ref, also where the target accepts no pack at all. It
raises only what concerns every push: a refused credential, an unreachable target.
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
from mirror.git.wire.errors import as_mirror_error, clean, protocol_errors
from mirror.git.wire.outgoing import pack_data
from mirror.git.workers.job import OnProgress
from mirror.model import Head

ZERO = "0" * 40
# How servers say that a pack is too large.
_SIZE_LIMIT = re.compile(r"exceed|too large|too big|maximum|size limit|quota|storage", re.IGNORECASE)
# Progress lines, which are left out of messages.
_PROGRESS = re.compile(r"^[\w ]+: +\d+% \(|^(?:Enumerating|Counting|Unpacking|Resolving)\b.*(?:\d|done\.?)$")
_LINES_MAX = 3


@dataclass(frozen=True)
class PushOutcome:
    """The result of one push.

    `refused`: why the target accepted nothing at all; `is_too_large`: because of the size of the pack, as far
    as is known; `is_damaged`: because an object of the mirror could not be read. Else `declined` has the refs
    that the target did not accept, each with the reason. `message`: what the target printed.
    """

    declined: Mapping[bytes, str] = field(default_factory=dict)
    refused: str | None = None
    is_too_large: bool = False
    is_damaged: bool = False
    message: str = ""


class Target(Protocol):
    """A repository to push to."""

    def refs(self) -> dict[bytes, str]:
        """The refs of the target. Raises the errors of `mirror.git.failures`."""
        ...

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> PushOutcome:
        """Push `updates` (values by ref; `ZERO` deletes one), with the objects that the target lacks."""
        ...

    def head(self) -> Head | None:
        """HEAD of the target; None where it is unborn. Raises as `refs`."""
        ...

    def set_head(self, name: bytes) -> bool:
        """Make a branch the default one; returns whether that is possible."""
        ...


def target_of(url: str, login: GitLogin | None, silence_timeout: float) -> Target:
    """The target for a URL (http, https or file). Raises GitFailed where a file URL names no folder."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return HttpTarget(url, login, silence_timeout)
    path = Path(unquote(parts.path))
    if not path.is_dir():
        raise GitFailed(f"{path} is not a repository; create one with `git init --bare`")
    return LocalTarget(path)


class _Damaged(Exception):
    """An object to send cannot be read."""


@contextlib.contextmanager
def _reading_mirror() -> Iterator[None]:
    """Convert errors while objects of the mirror are read to _Damaged."""
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


def _checked(records: Iterator[UnpackedObject]) -> Iterator[UnpackedObject]:
    while True:
        with _reading_mirror():
            record = next(records, None)
        if record is None:
            return
        yield record


def _pack_generator(store: DiskObjectStore, on_progress: OnProgress) -> Callable[..., Any]:
    """The function that dulwich calls to generate a pack; it and the pack raise _Damaged."""

    def generate(
        have: Iterable[ObjectID], want: Iterable[ObjectID], *, ofs_delta: bool = False, progress: Any = None
    ) -> Any:
        del ofs_delta, progress
        on_progress("packing")
        with _reading_mirror():
            count, records = pack_data(
                store, [one.decode("ascii") for one in want], [one.decode("ascii") for one in have]
            )
        return count, _checked(records)

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
            raise GitFailed(f"{self._path} is not a readable repository: {error}") from error
        return {bytes(name): value.decode("ascii") for name, value in found.items() if value}

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> PushOutcome:
        """See Target."""
        try:
            done = LocalGitClient().send_pack(
                str(self._path), lambda _: _ids(updates), _pack_generator(store, progress)
            )
        except (OSError, MemoryError, MirrorError):
            raise
        except _Damaged as error:
            return PushOutcome(refused=str(error), is_damaged=True)
        except Exception as error:  # noqa: BLE001 - dulwich raises anything
            return PushOutcome(refused=f"{type(error).__name__}: {clean(str(error))}")
        status = done.ref_status or {}
        return PushOutcome({bytes(name): str(why) for name, why in status.items() if why is not None})

    def head(self) -> Head | None:
        """See Target."""
        found = read_head(self._git)
        return found if found is not None and found.kind != "unborn" else None

    def set_head(self, name: bytes) -> bool:
        """See Target. Not for a repository with a worktree, whose files belong to the current branch."""
        if self._git != self._path:
            return False
        write_head(self._path, Head("symref", name))
        return True


class _Pushing(HttpClient):
    """Reads the target's status report in full: dulwich raises at the first unexpected line, and drops every
    ref where the pack was not unpacked."""

    unpack_error: str | None = None
    has_report = False

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
        self.has_report = True
        result: dict[bytes, str | None] = {}
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"unpack":
                text = clean(rest.decode("utf-8", "replace"))
                self.unpack_error = None if text == "ok" else text
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
        with protocol_errors():
            found = client._discover_references(b"git-receive-pack", client._get_url(""))[0]
        return {
            bytes(name): value.decode("ascii")
            for name, value in found.items()
            if value and name.startswith(b"refs/") and not name.endswith(b"^{}")
        }

    def send(self, store: DiskObjectStore, updates: Mapping[bytes, str], progress: OnProgress) -> PushOutcome:
        """See Target."""
        client, lines = self._client(), bytearray()

        def on_sideband(data: bytes) -> None:
            lines.extend(data)
            progress(data.decode("utf-8", "replace").strip())

        try:
            done = client.send_pack(
                "", lambda _: _ids(updates), _pack_generator(store, progress), on_sideband
            )
        except (CredentialRefused, GitForbidden, GitNotFound, OSError, MemoryError):
            raise
        except _Damaged as error:
            return PushOutcome(refused=str(error), is_damaged=True)
        except Exception as error:  # noqa: BLE001 - dulwich raises anything
            fault, message = as_mirror_error(error), _message_in(lines)
            assert isinstance(fault, MirrorError)
            if isinstance(fault, GitUnreachable):
                self.refs()  # raises where the target is down; else it broke off because of the pack
            is_too_large = isinstance(fault, GitTooLarge | GitUnreachable) or _names_size_limit(message)
            return PushOutcome(
                refused=_with_message(fault.message, message), is_too_large=is_too_large, message=message
            )
        message = _message_in(lines)
        if client.unpack_error is not None:
            text = _with_message(f"it did not accept the pack: {client.unpack_error}", message)
            return PushOutcome(refused=text, is_too_large=_names_size_limit(text), message=message)
        status = done.ref_status or {}
        declined = {bytes(name): str(why) for name, why in status.items() if why is not None}
        if client.has_report:
            declined |= {name: "the target does not report on it" for name in updates if name not in status}
        return PushOutcome(declined, message=message)

    def head(self) -> Head | None:
        """See Target."""
        client = HttpClient(self._url, login=self._login, silence_timeout=self._silence)
        with protocol_errors():
            found = client.list_refs()
        head = found.head if found is not None else None
        return head if head is not None and head.kind != "unborn" else None

    def set_head(self, name: bytes) -> bool:
        """See Target. The protocol cannot do it."""
        del name
        return False


def _message_in(lines: bytearray) -> str:
    """What a target printed, without progress: the first lines, errors before others."""
    found = [line.strip() for line in re.split(r"[\r\n]+", lines.decode("utf-8", "replace"))]
    said = [clean(line) for line in found if line and not _PROGRESS.match(line)]
    said.sort(key=lambda line: not re.match("fatal|error", line, re.IGNORECASE))
    return "; ".join(dict.fromkeys(said[:_LINES_MAX]))


def _with_message(text: str, message: str) -> str:
    return f"{text} ({message})" if message and message not in text else text


def _names_size_limit(text: str) -> bool:
    return _SIZE_LIMIT.search(text) is not None
