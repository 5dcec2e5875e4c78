"""Refs of our bare repositories: always in packed-refs, always changed in one step.

Loose refs are never written. So a change of many refs is one rename, names that differ only in case are safe
on any file system, and `a` may become `a/b`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, RawObjectID
from dulwich.pack import Pack
from dulwich.refs import check_ref_format
from dulwich.repo import Repo

from mirror.fs.durable import write_file
from mirror.git.objects import peel, read_loose
from mirror.git.pack.names import is_pack_name
from mirror.model import Head, Refs, is_hash

_T = TypeVar("_T", bound="_Closable")
OURS = b"refs/mirror/"
KEEP = OURS + b"keep/"
PULL_REQUESTS = OURS + b"pull-requests/"
WORK = OURS + b"work"
NAME_BYTES_MAX = 1024
# The first line as C git writes it. Ours adds traits that C git and dulwich ignore.
_HEADER = b"# pack-refs with: peeled fully-peeled sorted "
_HEAD = b"mirror-head="
_SUM = b"mirror-sha256="
# One ref of packed-refs, a comment or an empty line. Anything else is damage.
_LINE = re.compile(rb"([0-9a-f]{40}) ([^\r\n]+)\n(?:\^([0-9a-f]{40})\n)?|#[^\n]*\n|\n")
_PIN = re.compile(rb"^([0-9a-f]{40}) " + PULL_REQUESTS + rb"(\d+)/from$", re.MULTILINE)
_NUMBERS = re.compile(rb"(\d+)")
# Names of this form are valid unless they contain one of `_SUSPECT`.
_PLAIN = re.compile(rb"refs(?:/[A-Za-z0-9_+-][A-Za-z0-9_+.-]*)+")
_SUSPECT = (b"..", b".lock")


def by_age(names: Iterable[bytes]) -> list[bytes]:
    """Names of refs, those first that are likely to be old: tags by version, other refs, branches."""

    def key(name: bytes) -> tuple[int, list[tuple[int, bytes]]]:
        kind = 0 if name.startswith(b"refs/tags/") else 2 if name.startswith(b"refs/heads/") else 1
        return kind, [(int(word), b"") if word.isdigit() else (-1, word) for word in _NUMBERS.split(name)]

    return sorted(names, key=key)


def pin_name(number: int) -> bytes:
    """The ref that pins the head of a pull request."""
    return PULL_REQUESTS + b"%d/from" % number


# A line of packed-refs, with the name of a tag where it is one.
_TAG_LINE = re.compile(
    rb"^(?:#.*|\^[0-9a-f]{40}|[0-9a-f]{40} (?:refs/tags/(.+)|refs/(?!tags/).+))$", re.MULTILINE
)


def pins_of(refs: Mapping[bytes, str]) -> dict[int, str]:
    """The pull request heads that `refs` pin, by number."""
    return {
        int(name[len(PULL_REQUESTS) : -len(b"/from")]): value
        for name, value in refs.items()
        if name.startswith(PULL_REQUESTS) and name.endswith(b"/from")
    }


def pins_in(packed: bytes) -> dict[int, str]:
    """As `pins_of`, from the content of packed-refs: quicker than to parse every ref."""
    first = packed.find(b" " + PULL_REQUESTS)
    found = _PIN.finditer(packed, max(0, first - 40)) if first >= 0 else ()
    return {int(number): value.decode("ascii") for value, number in (one.groups() for one in found)}


def packed_tag_names(path: Path) -> frozenset[str] | None:
    """The names of all tags of the repository at `path`, without `refs/tags/`: quicker than to parse every
    ref. None where that is not sure: a line is none of packed-refs, or another program made loose refs."""
    try:
        data = (path / "packed-refs").read_bytes()
    except OSError:
        return None
    names = _TAG_LINE.findall(data)
    if len(names) != data.count(b"\n") or not data.endswith(b"\n") or _read_loose(path):
        return None
    return frozenset(b"\n".join(filter(None, names)).decode("utf-8", "replace").split("\n"))


def name_fault(name: bytes) -> str | None:
    """Why a ref of this name cannot be mirrored, or None where it can.

    Names come from a server and cannot be trusted: dulwich's own writers would follow `refs/../../x` out
    of the repository.
    """
    if not name.startswith(b"refs/"):
        return "not under refs/"
    if len(name) > NAME_BYTES_MAX:
        return f"longer than {NAME_BYTES_MAX} bytes"
    if _PLAIN.fullmatch(name) and not name.endswith(b".") and not any(one in name for one in _SUSPECT):
        return None
    if not check_ref_format(name):  # type: ignore[arg-type]
        return "not a valid ref name"
    return None


def read_packed(path: Path) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """The refs in packed-refs of the repository at `path` (those below `refs/mirror/` too), and the peeled
    values of its tags.

    Raises OSError where the file cannot be read and ValueError where it is damaged.
    """
    refs: dict[bytes, str] = {}
    peeled: dict[bytes, str] = {}
    try:
        data = (path / "packed-refs").read_bytes()
    except FileNotFoundError:
        return refs, peeled
    if not data.endswith(b"\n"):
        data += b"\n"
    at = 0
    for found in _LINE.finditer(data):
        if found.start() != at:
            break
        at = found.end()
        value, name, top = found.groups()
        if name is not None:
            refs[name] = value.decode("ascii")
            if top is not None:
                peeled[name] = top.decode("ascii")
    if at != len(data):
        line = data.count(b"\n", 0, at) + 1
        raise ValueError(f"packed-refs line {line} is not a ref")
    return refs, peeled


def read_all(path: Path) -> dict[bytes, str]:
    """All refs of the repository at `path`, including loose ones that another program made."""
    refs, _ = read_packed(path)
    return {**refs, **_read_loose(path)}


def _read_loose(path: Path) -> dict[bytes, str]:
    refs: dict[bytes, str] = {}
    base = path / "refs"
    if base.is_dir():
        for folder, _folders, files in os.walk(os.fsencode(base)):
            for file in files:
                full = os.path.join(folder, file)  # noqa: PTH118 (names are bytes)
                with open(full, "rb") as stream:  # noqa: PTH123
                    value = stream.read(64).strip().decode("ascii", "replace")
                if is_hash(value):
                    refs[os.path.relpath(full, os.fsencode(path))] = value
    return refs


def write_packed(
    path: Path, refs: Mapping[bytes, str], peeled: Mapping[bytes, str], head: Head | None = None
) -> None:
    """Replace all refs of the repository at `path` in one durable step.

    The first line has the file's own checksum and, where `head` is given, what HEAD is going to be. So
    verify can tell damage in either file from a writer that was killed between the two.
    """
    lines = []
    for name in sorted(refs):
        lines.append(refs[name].encode("ascii") + b" " + name + b"\n")
        if name in peeled and peeled[name] != refs[name]:
            lines.append(b"^" + peeled[name].encode("ascii") + b"\n")
    first = _HEADER + (_HEAD + head.value + b" " if head is not None else b"") + _SUM
    body = b" \n" + b"".join(lines)
    digest = hashlib.sha256(first + body).hexdigest().encode("ascii")
    write_file(path / "packed-refs", first + digest + body)


def peeled_tag(store: DiskObjectStore, value: str) -> str | None:
    """The peeled value of an annotated tag; None for any other object. Raises KeyError where an object is
    missing."""
    found = peel(store, value)
    return found if found != value else None


def roll_back(path: Path, refs: Mapping[bytes, str], pins: Mapping[int, str], head: Head | None) -> None:
    """Give the repository at `path` the refs and pins that it had, after a fetch from the wrong repository.
    The values that it has now are kept below `refs/mirror/keep/`."""
    old, peeled = read_packed(path)
    new = {name: value for name, value in old.items() if name.startswith(KEEP)}
    new |= {name: value for name, value in refs.items() if not name.startswith(OURS)}
    new |= {pin_name(number): value for number, value in pins.items()}
    lost = {value for name, value in old.items() if new.get(name) != value}
    new |= {KEEP + value.encode("ascii"): value for value in lost}
    tops: dict[bytes, str | None] = {
        name: value for name, value in peeled.items() if new.get(name) == old[name]
    }
    with closed_after(open_repository(path)) as repository:
        store = repository.object_store
        for name, value in refs.items():
            if old.get(name) != value and ObjectID(value.encode("ascii")) in store:
                tops[name] = peeled_tag(store, value)
    write_packed(path, new, {name: top for name, top in tops.items() if top is not None}, head)
    if head is not None:
        write_head(path, head)


def packed_fault(path: Path) -> str | None:
    """What is wrong with packed-refs of the repository at `path`, or None.

    Where C git wrote it last it has no checksum; then only its syntax is checked.
    """
    try:
        data = (path / "packed-refs").read_bytes()
        read_packed(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)
    first, _, rest = data.partition(b"\n")
    before, sign, digest = first.partition(_SUM)
    if not sign:
        return None if first == _HEADER else "its first line is neither C git's nor Mirror's"
    plain = before + sign + b" \n" + rest
    if digest != hashlib.sha256(plain).hexdigest().encode("ascii") + b" ":
        return "its content does not match its own checksum"
    return None


def head_promised(path: Path) -> bytes | None:
    """The value of HEAD (a name or a hash) that the last writer of packed-refs announced, or None."""
    try:
        with (path / "packed-refs").open("rb") as stream:
            first = stream.readline(2 * NAME_BYTES_MAX)
    except FileNotFoundError:
        return None
    traits = (trait.partition(_HEAD) for trait in first.split(b" "))
    return next((value for before, sign, value in traits if sign and not before), None)


def read_head(path: Path, refs: Mapping[bytes, str] | None = None) -> Head | None:
    """HEAD of the repository at `path`; None where it is missing or malformed. `refs`: the refs, where the
    caller has read them already."""
    try:
        text = (path / "HEAD").read_bytes().strip()
    except FileNotFoundError:
        return None
    if text.startswith(b"ref: "):
        name = text[5:].strip()
        known = read_all(path) if refs is None else refs
        return Head("symref" if name in known else "unborn", name)
    return Head("detached", text) if is_hash(text.decode("ascii", "replace")) else None


def write_head(path: Path, head: Head) -> None:
    """Write HEAD."""
    text = head.value if head.kind == "detached" else b"ref: " + head.value
    write_file(path / "HEAD", text + b"\n")


def read_refs(path: Path, *, ours: bool = False) -> Refs:
    """The refs of a mirror, without those under `refs/mirror/` unless `ours`."""
    refs, peeled = read_packed(path)
    refs |= _read_loose(path)
    head = read_head(path, refs)
    if not ours:
        refs = {name: value for name, value in refs.items() if not name.startswith(OURS)}
    return Refs(refs, head, {name: peeled[name] for name in refs if name in peeled})


def open_repository(path: Path) -> Repo:
    """The bare repository at `path`, for dulwich; the caller closes it."""
    return Repo(str(path), bare=True, object_store=open_objects(path))


class _Objects(DiskObjectStore):
    """Reads objects, but neither commit-graph nor multi-pack-index: damage there would look like damage of
    objects. Files without the name of a pack (copies that a sync tool made) are ignored."""

    def _update_pack_cache(self) -> list[Pack]:
        new = {id(pack): pack for pack in super()._update_pack_cache()}
        for name in [name for name in self._pack_cache if not is_pack_name(name)]:
            stranger = self._pack_cache.pop(name)
            new.pop(id(stranger), None)
            stranger.close()
        return list(new.values())

    def get_commit_graph(self) -> None:
        """None: see the class."""

    def get_midx(self) -> None:
        """None: see the class."""

    def contains_loose(self, name: ObjectID | RawObjectID) -> bool:
        """Whether there is such a loose object. A damaged one does not count. Nothing is parsed."""
        text = name.hex() if len(name) == 20 else name.decode("ascii")
        with contextlib.suppress(FileNotFoundError, ValueError):
            read_loose(Path(self.path) / text[:2] / text[2:])
            return True
        return False

    def get_raw(self, name: RawObjectID | ObjectID) -> tuple[int, bytes]:
        """As in dulwich, but without parsing loose objects, which fails for some that C git accepts."""
        text = name.hex() if len(name) == 20 else name.decode("ascii")
        with contextlib.suppress(KeyError):
            return self._lookup_in_packs(lambda pack: pack.get_raw(RawObjectID(bytes.fromhex(text))))
        with contextlib.suppress(FileNotFoundError):
            return read_loose(Path(self.path) / text[:2] / text[2:])
        for alternate in self.alternates:
            with contextlib.suppress(KeyError):
                return alternate.get_raw(name)
        raise KeyError(name)


def open_objects(path: Path) -> DiskObjectStore:
    """The objects of the repository at `path`, for dulwich; the caller closes the store."""
    return _Objects(str(path / "objects"))


class _Closable(Protocol):
    def close(self) -> None: ...


@contextlib.contextmanager
def closed_after(thing: _T) -> Iterator[_T]:
    """As contextlib.closing, with `close`."""
    try:
        yield thing
    finally:
        close(thing)


def close(thing: _Closable) -> None:
    """Close a repository or object store of dulwich's.

    After an object that could not be inflated, dulwich still holds a memoryview of its pack and cannot close
    it. The memory is released later, and the damage was reported where it was found.
    """
    with contextlib.suppress(BufferError):
        thing.close()
