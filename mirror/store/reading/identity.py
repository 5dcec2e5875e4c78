"""The identity of a folder: from `repository.json` or `workspace.json`, or else from its snapshots.

If the identity file is damaged or missing, only its folder is affected. The snapshots hold uuid and name too,
so the folder can be read, and the next backup writes the file again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from mirror.model import JsonObject, is_uuid
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.identity import RepositoryIdentity, WorkspaceIdentity
from mirror.store.format.seal import seal_fault
from mirror.store.format.small_files import parse_small_file, read_bytes
from mirror.store.reading.snapshots import SnapshotReader

T = TypeVar("T")
# The keys of identity files that version 0.1 wrote, without seals.
UNSEALED_IDENTITIES: Mapping[str, frozenset[str]] = {
    layout.WORKSPACE_FILE: frozenset({"schema", "uuid", "slug", "name", "since", "former_names"}),
    layout.REPOSITORY_FILE: frozenset(
        {"schema", "uuid", "full_name", "since", "former_names", "missing", "gone_since"}
    ),
}
_PROFILE = "repository.json"


def read_repository_identity(
    root: Path, place: str, snapshots: SnapshotReader
) -> tuple[RepositoryIdentity, StoreDamaged | None]:
    """The identity of the repository's folder `place`, and the damage of its file if the identity is from the
    snapshots. Raises StoreDamaged where neither has it."""
    try:
        return _read(root, place, layout.REPOSITORY_FILE, RepositoryIdentity.from_json), None
    except StoreDamaged as damage:
        known = _from_snapshots(snapshots, place)
        if known is None or known[1].count("/") != 1:
            raise
        uuid, full_name, since = known
        return RepositoryIdentity(uuid, full_name, since), damage


def read_workspace_identity(
    root: Path, place: str, snapshots: SnapshotReader, repositories: Callable[[], Iterable[SnapshotReader]]
) -> tuple[WorkspaceIdentity, StoreDamaged | None]:
    """The identity of the workspace's folder `place`; and the damage of its file, if the identity is from its
    snapshots or else from those of its `repositories`. Raises StoreDamaged where none has it."""
    try:
        return _read(root, place, layout.WORKSPACE_FILE, WorkspaceIdentity.from_json), None
    except StoreDamaged as damage:
        known = _from_snapshots(snapshots, place)
        if known is not None and "/" not in known[1]:
            uuid, slug, since = known
            return WorkspaceIdentity(uuid, slug, "", since), damage
        with contextlib.suppress(OSError):  # the folder may be unreadable
            for one in repositories():
                found = _workspace_from_snapshots(one, place)
                if found is not None:
                    return found, damage
        raise


def _read(root: Path, place: str, name: str, build: Callable[[JsonObject], T]) -> T:
    file = f"{place}/{name}"
    data = read_bytes(root, file)
    fault = seal_fault(data, UNSEALED_IDENTITIES[name])
    if fault is not None:
        raise StoreDamaged(file, fault)
    return parse_small_file(data, file, build)


def _from_snapshots(snapshots: SnapshotReader, place: str) -> tuple[str, str, datetime] | None:
    """The uuid, name and time of the last snapshot, if it belongs to this folder."""
    try:
        latest = snapshots.latest()
    except (StoreDamaged, OSError):
        return None
    if latest is None or not is_uuid(latest.uuid) or not _fits(place, latest.uuid):
        return None
    return latest.uuid, latest.full_name, latest.time


def _workspace_from_snapshots(snapshots: SnapshotReader, place: str) -> WorkspaceIdentity | None:
    try:
        latest = snapshots.latest()
        profile = snapshots.read(latest, _PROFILE) if latest is not None else None
    except (StoreDamaged, OSError):
        return None
    known = profile.get("workspace") if isinstance(profile, dict) else None
    uuid, slug = (known.get("uuid"), known.get("slug")) if isinstance(known, dict) else (None, None)
    if latest is None or not is_uuid(uuid) or not isinstance(slug, str) or not _fits(place, str(uuid)):
        return None
    return WorkspaceIdentity(str(uuid), slug, "", latest.time)


def _fits(place: str, uuid: str) -> bool:
    """Whether the folder's name has the digits of `uuid`; if not, the snapshots are another folder's."""
    return layout.may_belong_to(place.rpartition("/")[2], uuid)
