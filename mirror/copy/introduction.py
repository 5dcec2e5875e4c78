"""store.json of a copy: what it is a copy of. It is what a run asks for first, and all that it asks for where
nothing changed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from mirror.auth.secrets import read_secret
from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Absent
from mirror.config.copies import CopyConfig
from mirror.copy.coding import Coding, encrypting, plain
from mirror.copy.format import COPY_FILE, FORMAT, STORE
from mirror.errors import DamageFound, MirrorError, UsageError
from mirror.model import Clock, Json, JsonObject, loads, time_text
from mirror.store.format.seal import seal_fault, sealed

_SIZE_MAX = 1 << 20


async def coding_of(copy: CopyConfig, environment: Mapping[str, str]) -> Coding:
    """How the copy is written. Raises UsageError."""
    if not copy.recipients:
        return plain()
    if copy.names_key is None:
        raise UsageError(
            f"the copy to {copy.to} has recipients and no names_key", hint="add one: openssl rand -hex 32"
        )
    return encrypting(copy.recipients, await read_secret(copy.names_key, environment=environment))


async def introduce(
    bucket: Bucket, coding: Coding, store: str, clock: Clock, *, dry_run: bool = False
) -> str | None:
    """Make sure that the copy is one of the store with the id `store`, written as `coding` says; returns what
    tells this copy from one that is made anew at the same place.

    A copy is begun where there is none; with `dry_run` None is returned then. Raises UsageError where it is
    another store's or written in another way, DamageFound, and what the bucket raises.
    """
    try:
        data = await bucket.get(COPY_FILE, limit=_SIZE_MAX)
    except Absent:
        return None if dry_run else await _begin(bucket, coding, store, clock)
    found = _read(bucket, data)
    _check(bucket, coding, store, found)
    recipients = found["recipients"]
    more = [one for one in coding.recipients if one not in recipients]
    own = coding.folder_name(STORE)
    if (more or found.get("own") != own) and not dry_run:
        # What stands there stays readable to its own recipients alone: all of them are named.
        await bucket.put(COPY_FILE, sealed({**found, "recipients": [*recipients, *more], "own": own}))
    return str(found["id"])


async def _begin(bucket: Bucket, coding: Coding, store: str, clock: Clock) -> str:
    identity = secrets.token_hex(8)
    content = {
        "format": FORMAT,
        "id": identity,
        "store": store,
        "created": time_text(clock.now()),
        "encrypted": coding.is_encrypted,
        "recipients": list(coding.recipients),
        "begun_with": list(coding.recipients),
        "names": coding.names_check(),
        "own": coding.folder_name(STORE),
    }
    await bucket.put(COPY_FILE, sealed(content))
    return identity


def _read(bucket: Bucket, data: bytes) -> JsonObject:
    fault = seal_fault(data)
    content: Json = loads(data) if fault is None else None
    match content:
        case {
            "format": int() as version,
            "id": str(),
            "store": str(),
            "encrypted": bool(),
            "recipients": list(),
        }:
            if version > FORMAT:
                raise MirrorError(
                    f"the copy at {bucket.address} has format {version}, and this version knows {FORMAT}",
                    hint="use the version of mirror that made it, or a newer one",
                )
            return dict(content)
    raise DamageFound(
        f"{COPY_FILE} of the copy at {bucket.address} is damaged: {fault or 'it has another form'}",
        hint="bring back its older version, or send the copy to another prefix",
    )


def _check(bucket: Bucket, coding: Coding, store: str, found: JsonObject) -> None:
    """Raises UsageError unless the copy is one of this store, written in this way."""
    elsewhere = "give each store, and each way to write it, a prefix of its own"
    if found["store"] != store:
        raise UsageError(
            f"{bucket.address} holds the copy of another store ({found['store']})", hint=elsewhere
        )
    if found["encrypted"] != coding.is_encrypted:
        is_so, not_so = ("encrypted", "not") if found["encrypted"] else ("not encrypted", "so")
        raise UsageError(
            f"the copy at {bucket.address} is {is_so}, and `recipients` say {not_so}", hint=elsewhere
        )
    if coding.is_encrypted and found.get("names") != coding.names_check():
        raise UsageError(
            f"names_key is not the one with which the copy at {bucket.address} was begun",
            hint=f"use that one; where it is lost, begin another copy: {elsewhere}",
        )
    begun_with = found.get("begun_with")
    if (
        coding.is_encrypted
        and isinstance(begun_with, list)
        and not any(one in begun_with for one in coding.recipients)
    ):
        # What went up is never encrypted again.
        raise UsageError(
            f"no recipient is one with which the copy at {bucket.address} was begun: no key of theirs would"
            " read all of it",
            hint="keep one of those beside the new one; where their keys are lost, begin another copy:"
            f" {elsewhere}",
        )
