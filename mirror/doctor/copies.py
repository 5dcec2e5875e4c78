"""Checks of the copies in object storage. They leave nothing there: a probe could not be removed from a
bucket that keeps what it is given. So an upload is begun, and aborted."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Denied
from mirror.bucket.versions import LockState
from mirror.config.copies import CopyConfig
from mirror.config.settings import Config
from mirror.connect.copies import open_bucket
from mirror.copy.format import BLOBS, MANIFESTS
from mirror.copy.introduction import coding_of, introduce
from mirror.doctor.checks import Check, failed
from mirror.errors import MirrorError, TryLater, UsageError
from mirror.model import Clock
from mirror.model.words import counted
from mirror.store.reading.reader import Store

# A default retention shorter than this protects what is still in use only together with `protect`.
LONG_DAYS = 365
_DELETES = "whether its key may delete is unknown, as trying it would delete"
_GUIDE = "docs/offsite.md has the commands"


async def copy_checks(config: Config, clock: Clock, environment: Mapping[str, str]) -> list[Check]:
    """Of each copy, whether it can be read and is one of this store, whether what is configured can encrypt,
    and what the bucket does against whoever deletes."""
    checks = []
    for copy in config.copies:
        checks += await _checks_of(copy, config, clock, environment)
    if config.copies and config.schedule.copy is None:
        text = "the daemon brings no copy up to date: there is no schedule.copy"
        remedy = "add schedule: {copy: after backup}, or run mirror copy from a timer of your own"
        checks.append(Check("copies", "warn", text, remedy))
    return checks


async def _checks_of(
    copy: CopyConfig, config: Config, clock: Clock, environment: Mapping[str, str]
) -> list[Check]:
    name = f"copy {copy.to}"
    try:
        coding = await coding_of(copy, environment)
        with Store.open(config.store) as store:
            identifier = store.id
        async with open_bucket(copy, config, environment, clock) as bucket:
            begun = await introduce(bucket, coding, identifier, clock, dry_run=True)
            async for _ in bucket.list(f"{MANIFESTS}/"):
                break
            sends = await _sending_check(name, bucket)
            lock = await _lock_check(name, bucket, copy)
    except TryLater as error:
        # Not a check that could not be made: no copy can be made either.
        return [Check(name, "fail", error.message, error.hint, error.exit_code)]
    except MirrorError as error:
        return [failed(name, error)]
    readers = (
        f"encrypted to {counted(len(copy.recipients), 'recipients')}" if copy.recipients else "not encrypted"
    )
    stands = (
        "it can be read and listed" if begun is not None else "it is not begun yet; the bucket can be listed"
    )
    return [Check(name, "ok", f"{stands}; {readers}"), sends, lock]


async def _sending_check(name: str, bucket: Bucket) -> Check:
    """Whether the key may send. Raises TryLater."""
    name = f"{name}: sending"
    try:
        await bucket.try_put(f"{BLOBS}/doctor")
    except Denied as error:
        hint = "give the sender's key: docs/offsite.md has its policy, which may put, and abort what it began"
        return Check(name, "fail", f"its key may not send: {error.message}", hint)
    except UsageError as error:
        return Check(name, "warn", f"whether its key may send could not be told: {error.message}", error.hint)
    return Check(name, "ok", "its key may send: an upload was begun, and aborted")


async def _lock_check(name: str, bucket: Bucket, copy: CopyConfig) -> Check:
    """What the bucket does against whoever deletes or overwrites; a warning where that is nothing, unknown,
    or ends while something is still in use."""
    name = f"{name}: immutability"
    try:
        state = await bucket.lock_state()
    except MirrorError as error:
        return Check(name, "warn", f"unknown: {error.message}; {_DELETES}", error.hint)
    if state.has_default is None:
        remedy = "allow s3:GetBucketObjectLockConfiguration and s3:GetBucketVersioning to its key"
        return Check(name, "warn", f"unknown: {'; '.join(state.unknown)}; {_DELETES}", remedy)
    if not state.has_default:
        kept = "what is overwritten or deleted stays as a version" if state.versioning else "and no versions"
        text = f"the bucket has no default retention ({kept}); {_DELETES}"
        return Check(name, "warn", text, f"use a bucket with Object Lock and a default retention: {_GUIDE}")
    return _retained(name, state, copy)


def _retained(name: str, state: LockState, copy: CopyConfig) -> Check:
    who = "nobody can shorten that" if state.mode == "compliance" else "few may shorten that"
    text = f"the bucket keeps each object for {state.days} days ({state.mode} mode: {who})"
    if copy.protect is None and (state.days or 0) < LONG_DAYS:
        text += ", and then what is still in use is no longer protected"
        return Check(name, "warn", text, "add protect to the copy: it renews the retention of what is in use")
    return Check(name, "ok", text)
