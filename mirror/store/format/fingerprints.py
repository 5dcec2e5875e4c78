"""Fingerprints: short values that detect whether refs or lists of LFS objects changed."""

from __future__ import annotations

import hashlib

from mirror.store.format.lfs_document import LfsObjects, lfs_to_documents
from mirror.store.format.refs_document import MirrorRefs


def fingerprint(mirror: MirrorRefs) -> str:
    """SHA-256 fingerprint of a mirror's refs, pins and HEAD, to detect change."""
    refs, pins, head = mirror.refs.refs, mirror.pins, mirror.refs.head
    lines = [b"%s %s\n" % (value.encode("ascii"), name) for name, value in sorted(refs.items())]
    lines += [b"%s %d\n" % (value.encode("ascii"), number) for number, value in sorted(pins.items())]
    first = b"-" if head is None else head.kind.encode("ascii") + b" " + head.value
    if mirror.gone_since is not None:
        first += b" gone " + mirror.gone_since.encode("ascii")
    return hashlib.sha256(first + b"\n" + b"".join(lines)).hexdigest()


def lfs_fingerprint(objects: LfsObjects) -> str:
    """SHA-256 fingerprint of a list of LFS objects, to detect change."""
    digest = hashlib.sha256()
    for path, data in sorted(lfs_to_documents(objects).items()):
        digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
    return digest.hexdigest()
