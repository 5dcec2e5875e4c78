"""Opening a copy: which folders of the store it has, each by the newest manifest that holds.

A manifest holds where its seal does, it is of its own folder and number, and every blob that it names stands
with its size. What is in the bucket may be hostile: whoever has the uploader's credential can write anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Absent
from mirror.bucket.stored import Stored
from mirror.copy import coding
from mirror.copy.choosing import Named, chosen_places, names_in
from mirror.copy.coding import ENCRYPTED_SUFFIX, Coding, WrongIdentity
from mirror.copy.format import (
    COPY_FILE,
    FORMAT,
    MANIFEST_MAX,
    MANIFESTS,
    NUMBER_DIGITS,
    STORE,
    Manifest,
    blob_key,
    manifest_key,
)
from mirror.copy.objects import Objects
from mirror.errors import DamageFound, NoStore, UsageError
from mirror.logs import get_logger
from mirror.model import NotCanonical, Selector, loads
from mirror.model.canonical import BYTES_MAX
from mirror.store.format import layout
from mirror.store.format.seal import seal_fault

# How many objects are read at a time.
WIDTH = 8
# So many notes are logged as warnings: after an attack there is one for each object.
LOGGED_MAX = 20
# What encryption adds to a small object at most: a header with a line for each of many recipients, and tags.
_ENCRYPTION_MAX = 1 << 20
_NUMBER = re.compile(rf"([0-9]{{{NUMBER_DIGITS}}})\.json")
_log = get_logger("copy")


class CopyDamaged(DamageFound):
    """Something of the copy is not what was sent, and nothing older of it that holds is there either."""


@dataclass(frozen=True)
class CopiedFolder:
    """A folder of the store as the copy has it, by one of its manifests.

    `place` is its path in the store, or `store`; `name` that of the folder of its manifests. `read_from` is
    the version of the manifest, `sha256` that of its plain bytes. `size` is that of all plain files,
    `largest` that of the largest blob that is read to a file apart first. `is_newest`: whether no newer
    manifest was passed over. `fault` says why none of its manifests holds; then it cannot be had.
    """

    place: str
    name: str
    number: int
    read_from: Stored | None
    sha256: str
    time: datetime
    size: int
    largest: int
    full_name: str
    uuid: str
    snapshots: tuple[str, ...]
    is_newest: bool
    fault: str | None = None

    @property
    def named(self) -> Named:
        """Its place and names."""
        return Named(self.place, self.full_name, self.uuid)


@dataclass
class Copy:
    """A copy that was opened.

    `folders` are by their places in the store, those that cannot be had among them; `broken` has, by the name
    of its folder of manifests, why one of which nobody knows the place cannot be had. `lost` has, by place,
    why a folder that was wanted could not be read. `foreign` are the keys of manifests that are not of this
    copy. `notes` are what was met on the way and is not as it
    should be, for people.
    """

    bucket: Bucket
    objects: Objects
    coding: Coding
    store_id: str | None
    as_of: datetime | None
    folders: dict[str, CopiedFolder] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    _wrong: WrongIdentity | None = None
    _unopened: list[str] = field(default_factory=list)
    _numbers: dict[str, list[int]] = field(default_factory=dict)
    # The name of the folder of the store's own manifests, as store.json tells it.
    _own: str = STORE
    _unread: set[str] = field(default_factory=set)

    @classmethod
    async def open(
        cls,
        bucket: Bucket,
        identities: Sequence[object] = (),
        *,
        as_of: datetime | None = None,
        selectors: Sequence[Selector] = (),
    ) -> Copy:
        """List the bucket and read the newest manifest that holds of each folder; with `selectors` of those
        that they select alone, where the store's own manifest knows all names and theirs agree with it.

        `identities` are those of `coding.read_identities`. Nothing that the bucket took later than `as_of`
        is believed.
        Raises NoStore where nothing of a copy stands, UsageError where the copy is encrypted and no identity
        is given, WrongIdentity, and as listing does.
        """
        objects = await Objects.listed(bucket, as_of)
        suffix, foreign = await _suffix(bucket, objects, has_key=bool(identities))
        if suffix is None:
            raise _nothing(bucket, objects, as_of)
        if suffix and not identities:
            raise UsageError(
                f"the copy at {bucket.address} is encrypted, and no key that opens it is given",
                hint="give --identity FILE, the file with the private key",
            )
        found = cls(bucket, objects, coding.decrypting(identities) if suffix else coding.plain(), None, as_of)
        found.foreign = foreign
        for key in foreign:
            found.note(f"{key} is not of this copy, which is not encrypted: somebody else put it there")
        await found._read_record()
        found._find_manifests()
        if not (selectors and await found._read_chosen(selectors)):
            await found._read_folders(found._numbers.keys())
        if found._wrong is not None and not found.folders:
            raise WrongIdentity(f"{bucket.address}: {found._wrong.message}", hint=found._wrong.hint)
        found._say_unopened()
        found._check_places()
        await found._check_named()
        return found

    def note(self, text: str) -> None:
        """Say something aloud, once."""
        if text not in self.notes:
            self.notes.append(text)
            log = _log.warning if len(self.notes) <= LOGGED_MAX else _log.debug
            log("copy.note", copy=str(self.bucket.address), problem=text)
            if len(self.notes) == LOGGED_MAX:
                _log.warning("copy.more_notes", copy=str(self.bucket.address), logged=LOGGED_MAX)

    def numbers(self, name: str) -> Sequence[int]:
        """The numbers of the manifests in a folder of manifests, the highest first."""
        return self._numbers.get(name, ())

    def key(self, place: str) -> str:
        """The key of what is named without the end of encrypted names."""
        return f"{place}{self.coding.suffix}"

    def blob_key(self, name: str) -> str:
        """The key of a blob."""
        return blob_key(name, self.coding.suffix)

    async def read(self, one: Stored) -> bytes:
        """The plain bytes of a small object. Raises ValueError where it is too large, WrongIdentity,
        Undecodable, and Absent where the bucket no longer has it."""
        most = MANIFEST_MAX if one.key.startswith(f"{MANIFESTS}/") else BYTES_MAX
        most += _ENCRYPTION_MAX if self.coding.is_encrypted else 0
        if one.size > most:
            raise ValueError(f"it has {one.size} bytes, and no such object has more than {most}")
        data = await self.bucket.get(one.key, version=one.version, limit=most)
        if not self.coding.is_encrypted:
            return data
        plain = io.BytesIO()
        await asyncio.to_thread(self.coding.decode, io.BytesIO(data), plain)
        return plain.getvalue()

    async def first_intact(self, key: str, fault: Callable[[bytes], str | None]) -> bytes | None:
        """The plain bytes of the first version of a small object in which `fault` finds nothing wrong, or
        None. What was passed over is said."""
        for one in self.objects.of(key):
            try:
                data = await self.read(one)
                problem = fault(data)
            except (ValueError, DamageFound, Absent, WrongIdentity) as error:
                problem = str(error)
            if problem is None:
                self.say_former(one)
                return data
            self.note(f"{_named(one)} is not what was sent: {problem}")
        return None

    def say_former(self, one: Stored) -> None:
        """Say that a version that was read is not what stands at its key now."""
        since = self.objects.in_the_way(one)
        if since is not None and self.as_of is None:
            self.note(f"{one.key}: an older version was read, of {one.modified:%Y-%m-%d %H:%M} UTC: {since}")

    async def manifest(self, folder: CopiedFolder) -> Manifest:
        """The manifest of a folder, read again. Raises CopyDamaged where none holds, or it changed since."""
        if folder.read_from is None or folder.fault is not None:
            raise CopyDamaged(f"{self.bucket.address}: of {folder.place} nothing holds: {folder.fault}")
        data = await self.read(folder.read_from)
        if hashlib.sha256(data).hexdigest() != folder.sha256:
            raise CopyDamaged(f"{folder.read_from.key} changed while it was read", hint="run it again")
        return checked_manifest(data)

    async def older(self, folder: CopiedFolder) -> CopiedFolder | None:
        """The folder by the newest manifest before this one that holds, or None."""
        if folder.read_from is None or folder.fault is not None:
            return None
        versions = list(self.objects.of(folder.read_from.key))
        rest = versions[versions.index(folder.read_from) + 1 :]
        found = await self._newest(folder.name, below=folder.number, first=rest)
        self._say_unopened()
        return None if found is None or found.fault is not None else found

    async def _read_record(self) -> None:
        """Read store.json, which is never encrypted."""
        for one in self.objects.of(COPY_FILE):
            try:
                data = await self.bucket.get(one.key, version=one.version, limit=1 << 20)
                self.store_id = record_store_id(data)
                self._own = str(loads(data).get("own", STORE))
            except (ValueError, Absent) as error:
                self.note(f"{_named(one)} is not what was sent: {error}")
                continue
            self.say_former(one)
            return
        self.note(f"{COPY_FILE} of the copy is missing or damaged; the manifests were read without it")

    def _find_manifests(self) -> None:
        """Sort the keys of manifests."""
        for key in self.objects.keys(f"{MANIFESTS}/"):
            folder, _, file = key.removeprefix(f"{MANIFESTS}/").rpartition("/")
            number = _NUMBER.fullmatch(file.removesuffix(self.coding.suffix))
            if (
                number is not None
                and folder
                and key == manifest_key(folder, int(number[1]), self.coding.suffix)
            ):
                self._numbers.setdefault(folder, []).append(int(number[1]))
        for numbers in self._numbers.values():
            numbers.sort(reverse=True)

    async def _read_chosen(self, selectors: Sequence[Selector]) -> bool:
        """Read the folders that `selectors` select, and those that the store's own manifest does not know;
        returns whether that was possible. What is not as it should be is for who reads all."""
        own = await self._newest(self._own) if self._own in self._numbers else None
        if own is None or own.fault is not None or own.place != STORE or not own.is_newest:
            return False
        known = names_in((await self.manifest(own)).facts)
        if known is None:
            return False
        names, several = known
        places = chosen_places(several, selectors)
        if places is None:
            return False
        wanted = {names[place] for place in places if place in names}
        wanted |= (self._numbers.keys() - set(names.values())) | {self._own}
        await self._read_folders(wanted & self._numbers.keys())
        told = {one.place: one for one in several}
        read = {one.place: one for one in self.folders.values()}
        if any(
            place not in read or read[place].named != told.get(place, read[place].named) for place in places
        ):
            self.folders.clear()
            return False
        self._unread = self._numbers.keys() - wanted
        return True

    async def _read_folders(self, names: Collection[str]) -> None:
        """Read the folders of the manifests in these folders."""
        slots = asyncio.Semaphore(WIDTH)

        async def one(name: str) -> None:
            async with slots:
                found = await self._newest(name)
            if found is not None:
                self.folders[name] = found

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(one(name))

    async def _newest(
        self, name: str, below: int | None = None, first: Sequence[Stored] = ()
    ) -> CopiedFolder | None:
        """The folder by its newest manifest that holds (of those before `below`, after trying the versions
        `first`). Where none does, by the newest that can be read, with the fault; None where there is none,
        and `broken` says why."""
        problem, readable = "no manifest of it holds", None
        is_newest = below is None
        async for one in self._candidates(name, below, first):
            try:
                data = await self.read(one)
                found = self._folder(name, one, data, is_newest=is_newest)
                if found.fault is not None:
                    readable = readable or found
                    raise ValueError(found.fault)
            except WrongIdentity as error:
                self._wrong, is_newest, problem = error, False, str(error)
                self._unopened.append(f"{_named(one)} does not hold: {problem}")
                continue
            except (ValueError, DamageFound, Absent) as error:
                problem = str(error)
            else:
                self.say_former(one)
                return found
            is_newest = False
            self.note(f"{_named(one)} does not hold: {problem}")
        if readable is None and below is None:
            self.broken[name] = problem
        return readable

    def _say_unopened(self) -> None:
        """Say which manifests no key opened: apart, since with a wrong key it is every one."""
        for text in self._unopened:
            self.note(text)
        self._unopened.clear()

    async def _candidates(
        self, name: str, below: int | None, first: Sequence[Stored]
    ) -> AsyncIterator[Stored]:
        for one in first:
            yield one
        for number in self._numbers.get(name, ()):
            if below is None or number < below:
                for one in self.objects.of(manifest_key(name, number, self.coding.suffix)):
                    yield one

    def _folder(self, name: str, one: Stored, data: bytes, *, is_newest: bool) -> CopiedFolder:
        """What a manifest says; with the fault where blobs are missing. Raises ValueError where it does not
        hold itself."""
        manifest = checked_manifest(data)
        if manifest_key(name, manifest.number, self.coding.suffix) != one.key:
            raise ValueError("it is the manifest of another number")
        if not self.coding.is_encrypted and manifest.folder != name:
            raise ValueError("it is the manifest of another folder")
        lacking = [
            blob for blob, size in manifest.blobs.items() if not self.objects.sized(self.blob_key(blob), size)
        ]
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        fault = f"{self.blob_key(lacking[0])}{more} is missing, or has another size" if lacking else None
        facts = manifest.facts
        snapshots = facts.get("snapshots")
        return CopiedFolder(
            manifest.folder, name, manifest.number, one, hashlib.sha256(data).hexdigest(), manifest.time,
            sum(file.size for file in manifest.files.values()), self._largest(manifest),
            str(facts.get("full_name") or ""), str(facts.get("uuid") or ""),
            tuple(str(text) for text in snapshots) if isinstance(snapshots, list) else (), is_newest, fault,
        )  # fmt: skip

    def _largest(self, manifest: Manifest) -> int:
        """The size of the largest blob that is no plain file."""
        apart = {one.blob for one in manifest.files.values() if one.is_bundled or self.coding.is_encrypted}
        return max((manifest.blobs[name] for name in apart), default=0)

    def _check_places(self) -> None:
        """Where two folders of manifests say that they are the same folder of the store, the one with the
        higher number counts: with encryption nobody can tell by the names."""
        by_place: dict[str, CopiedFolder] = {}
        for folder in sorted(self.folders.values(), key=lambda one: one.number):
            other = by_place.get(folder.place)
            if other is not None:
                self.note(f"{folder.place} has manifests under two names, {other.name} and {folder.name}")
            by_place[folder.place] = folder
        self.folders = {one.place: one for one in by_place.values()}

    async def _check_named(self) -> None:
        """Give the folders that cannot be had their places, as far as the store's own manifest or the name
        tells them; and note those that it names and of which there is no manifest."""
        own = self.folders.get(STORE)
        named = (await self.manifest(own)).facts.get("folders") if own and not own.fault else None
        places = {place: str(name) for place, name in named.items()} if isinstance(named, dict) else {}
        if not self.coding.is_encrypted:
            places.update({name: name for name in self.broken if is_place(name)})
        for place, name in places.items():
            if place not in self.folders and is_place(place) and name not in self._unread:
                why = self.broken.pop(name, "none of its manifests is there")
                self.note(f"{place} cannot be had: {why}")
                self.folders[place] = CopiedFolder(
                    place, name, 0, None, "", datetime.min.replace(tzinfo=UTC), 0, 0, "", "", (),
                    is_newest=False, fault=why,
                )  # fmt: skip


def record_store_id(data: bytes) -> str:
    """The id of the store in the copy's store.json. Raises ValueError where it does not hold."""
    fault = seal_fault(data)
    if fault is not None:
        raise ValueError(fault)
    value = loads(data)
    if value.get("format") != FORMAT:
        raise ValueError(f"it has format {value.get('format')}; this version reads format {FORMAT}")
    match value:
        case {"store": str() as identifier}:
            return identifier
    raise ValueError("it names no store")


def checked_manifest(data: bytes) -> Manifest:
    """The manifest in `data`. Raises ValueError where it does not hold, or would lay files where they do not
    belong: in another folder, in each other's place, or where git would read them from elsewhere."""
    try:
        manifest = Manifest.from_bytes(data)
    except NotCanonical as error:
        raise ValueError(str(error)) from None
    if not is_place(manifest.folder):
        raise ValueError(f"{manifest.folder!r} is no folder of a store")
    inner = INNER[depth(manifest.folder)]
    folders = set(manifest.empty_folders)
    for path in manifest.files:
        parts = path.split("/")
        folders.update("/".join(parts[:end]) for end in range(1, len(parts)))
        if parts[0] in inner or parts[-1] in _ELSEWHERE:
            raise ValueError(f"{path!r} does not belong into {manifest.folder}")
    if any(path.split("/")[0] in inner and path not in inner for path in manifest.empty_folders):
        raise ValueError("an empty folder of it does not belong there")
    both = folders & manifest.files.keys()
    if both:
        raise ValueError(f"{min(both)!r} is a file and a folder")
    return manifest


# What belongs to other manifests, or to none: by how deep the folder lies in the store.
INNER: Mapping[int, frozenset[str]] = {
    0: frozenset({layout.WORKSPACES, layout.RUNS, layout.CACHE, layout.TEMPORARY}),
    2: frozenset({layout.REPOSITORIES}),
    4: frozenset(),
}


# Files by which git would read objects, settings or all of a repository from elsewhere.
_ELSEWHERE = frozenset({"alternates", "http-alternates", "commondir", "config.worktree"})


def depth(place: str) -> int:
    """How deep a folder lies in the store: 0, 2 or 4 names."""
    return 0 if place == STORE else len(place.split("/"))


def is_place(place: str) -> bool:
    """Whether `place` is that of a workspace or repository in a store, or `store`, for its own files."""
    if place == STORE:
        return True
    match place.split("/"):
        case [layout.WORKSPACES, workspace]:
            return layout.is_folder_name(workspace)
        case [layout.WORKSPACES, workspace, layout.REPOSITORIES, repository]:
            return layout.is_folder_name(workspace) and layout.is_folder_name(repository)
    return False


def _named(one: Stored) -> str:
    """An object for people; of a former version, which."""
    return one.key if one.is_latest else f"{one.key} of {one.modified:%Y-%m-%d %H:%M} UTC"


async def _suffix(bucket: Bucket, objects: Objects, *, has_key: bool) -> tuple[str | None, list[str]]:
    """The end of the keys of a copy, and the keys of manifests that are not of it; None where there is no
    manifest.

    A copy that has any encrypted manifest is read as an encrypted one: else a stranger's plain manifests
    would be believed. Only for who gives no key, where the first store.json says that it is plain and the
    oldest manifest is, an encrypted one is the stranger's.
    """
    keys = list(objects.keys(f"{MANIFESTS}/"))
    encrypted = sorted(key for key in keys if key.endswith(f".json{ENCRYPTED_SUFFIX}"))
    plain = [key for key in keys if key.endswith(".json")]
    if not encrypted:
        return ("" if plain else None), []
    first = min((*plain, *encrypted), key=lambda key: min(one.modified for one in objects.of(key)))
    if has_key or first not in plain or not await _was_begun_plain(bucket, objects):
        return ENCRYPTED_SUFFIX, []
    return "", encrypted


async def _was_begun_plain(bucket: Bucket, objects: Objects) -> bool:
    """Whether the oldest store.json that holds says that the copy is not encrypted."""
    for one in sorted(objects.of(COPY_FILE), key=lambda one: one.modified):
        try:
            data = await bucket.get(one.key, version=one.version, limit=1 << 20)
            record_store_id(data)
        except (ValueError, Absent):
            continue
        return loads(data).get("encrypted") is False
    return False


def _nothing(bucket: Bucket, objects: Objects, as_of: datetime | None) -> NoStore:
    """The error where no manifest stands."""
    if as_of is not None:
        hint = "name a later time with --as-of: the bucket's clock says when each object came"
    elif not objects.with_versions:
        hint = f"check the address; what was deleted could not be looked for: {objects.why_not}"
    else:
        hint = "check the address; mirror copy makes a copy"
    begun = " but the beginning of one" if next(iter(objects.keys()), None) is not None else ""
    return NoStore(f"there is no copy at {bucket.address}{begun}", hint=hint)
