"""One file of a mirror at a snapshot, with every byte on the way to it checked."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from mirror.errors import MirrorError, UsageError
from mirror.extract.consistency import read_consistently
from mirror.git.lfs.pointers import parse_pointer
from mirror.git.mirrors.intact import IntactObjects
from mirror.git.mirrors.paths import AtPath, NoSuchPath, at_path
from mirror.git.refs import pin_name
from mirror.model import name_from_json, name_to_json
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, MirrorRefs, RepositoryFolder, StoreDamaged, StoredFile

_CHUNK = 1 << 20
_NEAR_MAX, _NAMED_MAX = 3, 20
# A name that is not UTF-8, as documents and lists have it.
_ENCODED = re.compile(r"(?:^|(?<=/))(base64:.*)", re.DOTALL)
_PULL_REQUEST = re.compile(r"pull-requests/([0-9]{1,18})")


@dataclass(frozen=True)
class GitFile:
    """A file or folder of a mirror. `commit` is what `ref` names. `names` are those in a folder. `chunks`
    gives the bytes of a file; for a Git LFS pointer (`is_lfs`) those of its object. It raises StoreDamaged
    at the end where the object is damaged."""

    full_name: str
    when: At
    ref: str
    commit: str
    path: str
    names: tuple[str, ...] | None = None
    chunks: Callable[[], Iterator[bytes]] = lambda: iter(())
    is_lfs: bool = False


def git_file(folder: AnyFolder, at: str, place: str) -> GitFile:
    """What `place` names at the snapshot that `at` selects: `REF:PATH` in the code, `wiki:REF:PATH` in the
    wiki. REF is a branch, a tag, a full name, HEAD (also where it is empty) or `pull-requests/<n>`. REF and
    PATH may be names as documents have them: `base64:…` where they are not UTF-8.

    Raises UsageError where there is no such thing, MirrorError where no backup has the object of a pointer,
    and StoreDamaged.
    """
    return read_consistently(folder, lambda: _git_file(folder, folder.metadata.at(at), place))


def _git_file(folder: AnyFolder, when: At, place: str) -> GitFile:
    mirrors = folder.metadata.mirrors(when.snapshot)
    mirror, ref, path = _split(place)
    if mirror not in mirrors:
        raise UsageError(f"{folder.full_name} has no {mirror} in the snapshot {when.snapshot.id}")
    name, commit = _resolve(folder.full_name, when, mirrors[mirror], ref)
    found = _read(folder, mirror, commit, name, path)
    head = (folder.full_name, when, name, commit, path)
    if found.content is None:
        return GitFile(*head, names=tuple(name_to_json(one) for one in found.names))
    content = found.content
    pointer = parse_pointer(content)
    if pointer is None or not isinstance(folder, RepositoryFolder):
        return GitFile(*head, chunks=lambda: iter((content,)))
    return GitFile(*head, chunks=_object(folder, pointer[0], path), is_lfs=True)


def _split(place: str) -> tuple[str, str, str]:
    """The mirror, the ref and the path in `[wiki:]REF:PATH`."""
    mirror = "code"
    ref, _, path = place.partition(":")
    if ref == "wiki" and ":" in path:
        mirror, (ref, _, path) = ref, path.partition(":")
    if ref == "base64" and ":" in path:
        encoded, _, path = path.partition(":")
        ref = f"{ref}:{encoded}"
    return mirror, ref, path


def _bytes_of(text: str) -> bytes:
    """The bytes of a ref's name, or of a path whose end may be encoded. Raises UsageError."""
    found = _ENCODED.search(text)
    if found is None:
        return os.fsencode(text)
    try:
        return os.fsencode(text[: found.start(1)]) + name_from_json(found[1])
    except ValueError:
        raise UsageError(
            f"{found[1]} is not base64", hint="copy it as `mirror show` or `mirror find` prints it"
        ) from None


def _resolve(full_name: str, when: At, recorded: MirrorRefs, text: str) -> tuple[str, str]:
    """The full name and the hash of a ref. Raises UsageError."""
    refs, head = recorded.refs.refs, recorded.refs.head
    pins = {pin_name(number): value for number, value in recorded.pins.items()}
    name = _bytes_of(text)
    if text in ("", "HEAD") and head is not None:
        if head.kind == "detached":
            return "HEAD", head.value.decode("ascii")
        name = head.value
    if number := _PULL_REQUEST.fullmatch(text):
        name = pin_name(int(number[1]))
    for candidate in (name, b"refs/heads/" + name, b"refs/tags/" + name, b"refs/" + name):
        value = refs.get(candidate) or pins.get(candidate)
        if value is not None:
            return name_to_json(candidate), value
    known = [name_to_json(one).removeprefix("refs/heads/").removeprefix("refs/tags/") for one in refs]
    near = _near(text, known)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"{full_name} has no ref {text or 'HEAD'} in the snapshot {when.snapshot.id}",
        hint=f"{hint}`mirror show {full_name} refs.json` lists them",
    )


def _read(folder: AnyFolder, mirror: str, commit: str, ref: str, path: str) -> AtPath:
    source = folder.mirror(mirror)
    try:
        with closing(IntactObjects(source)) as objects:
            return at_path(objects, commit, _bytes_of(path))
    except NoSuchPath as error:
        names = [name_to_json(name) for name in error.near]
        near = _near(name_to_json(error.name), [name.rstrip("/") for name in names])
        hint = f"did you mean {' or '.join(near)}?" if near else None
        if names and not near:
            hint = f"the folder has {', '.join(names[:_NAMED_MAX])}"
        raise UsageError(f"{folder.full_name}: {ref}:{path}: {error}", hint=hint) from None
    except KeyError as error:
        lacks = (
            error.args[0].decode("ascii", "replace") if isinstance(error.args[0], bytes) else error.args[0]
        )
        raise StoreDamaged(
            folder.relative(source), f"{ref}:{path} needs {lacks}, which is missing"
        ) from error
    except ValueError as error:
        raise StoreDamaged(folder.relative(source), f"{ref}:{path}: an object {error}") from error


def _near(text: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(text, known, n=_NEAR_MAX)


def _object(folder: RepositoryFolder, oid: str, path: str) -> Callable[[], Iterator[bytes]]:
    """What reads a Git LFS object. Raises MirrorError where the store does not have it."""
    source = folder.lfs_object(oid)
    if source is None:
        raise MirrorError(f"{folder.full_name}: the Git LFS object of {path} is missing: {oid}")
    stored = StoredFile(source.name, folder.relative(source), source)

    def chunks() -> Iterator[bytes]:
        with stored.open() as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    return chunks
