"""What stands in a bucket below the address, by key: every version that may be read.

Where the bucket keeps versions, and they may be listed, all of them count: what somebody overwrote or
delete-marked is still there. With a time that is believed, nothing newer than that counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mirror.bucket.bucket import Bucket
from mirror.bucket.stored import Stored
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater
from mirror.logs import get_logger

_log = get_logger("copy")


@dataclass(frozen=True)
class Objects:
    """The objects of a copy. `with_versions`: whether former versions are among them; else `why_not`."""

    bucket: Bucket
    with_versions: bool
    why_not: str = ""
    _versions: dict[str, list[Stored]] = field(default_factory=dict, repr=False)
    _now: dict[str, Stored] = field(default_factory=dict, repr=False)

    @classmethod
    async def listed(cls, bucket: Bucket, as_of: datetime | None = None) -> Objects:
        """List the bucket: its versions where that is possible, else what stands there now.

        `as_of`: objects and versions that the bucket made later do not count. Raises as listing does, and
        with `as_of` what forbids listing versions.
        """
        found = cls(bucket, with_versions=True)
        try:
            async for one in bucket.versions():
                found._add(one, as_of)
        except (TryLater, CredentialRefused, NoStore):
            raise
        except MirrorError as error:
            if as_of is not None:
                raise
            _log.info("copy.versions_unread", reason=error.message)
            found = cls(bucket, with_versions=False, why_not=error.message)
            async for one in bucket.list():
                found._add(one, None)
        for versions in found._versions.values():
            # The one that stands comes first, then by the bucket's own clock.
            versions.sort(key=lambda one: (one.is_latest, one.modified), reverse=True)
        return found

    def _add(self, one: Stored, as_of: datetime | None) -> None:
        if one.is_latest and not one.is_deleted:
            self._now[one.key] = one
        # A delete marker says nothing that a reader believes: what it hides is still there.
        if not one.is_deleted and (as_of is None or one.modified <= as_of):
            self._versions.setdefault(one.key, []).append(one)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key with this prefix of which there is a version."""
        return (key for key in self._versions if key.startswith(prefix))

    def of(self, key: str) -> Sequence[Stored]:
        """The versions of a key that may be read: the one that stands now first, then the newest."""
        return self._versions.get(key, ())

    def now(self, key: str) -> Stored | None:
        """What stands at a key now; None where there is nothing or it is delete-marked."""
        return self._now.get(key)

    def sized(self, key: str, size: int) -> Sequence[Stored]:
        """The versions of a key that have this size."""
        return [one for one in self.of(key) if one.size == size]

    def in_the_way(self, one: Stored) -> str | None:
        """What happened to a version since, or None where it is what stands now."""
        now = self.now(one.key)
        if now is None:
            return "it was deleted since"
        return None if now.version == one.version else "it was overwritten since"
