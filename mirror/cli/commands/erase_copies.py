"""What copies still hold of something that is erased from the store, and until when it stays there."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.cli.context import Context
from mirror.errors import MirrorError

if TYPE_CHECKING:
    from mirror.bucket.versions import LockState
    from mirror.config.copies import CopyConfig


async def copies_hold(context: Context, store: Path) -> list[str]:
    """For each copy of the store a text for people: what it holds until when. What cannot be learnt is said
    to be unknown."""
    config = context.config_if_any()
    if config is None or config.store != store:
        return []
    return [f"{one.to}: {await _about(context, one)}" for one in config.copies]


async def _about(context: Context, copy: CopyConfig) -> str:
    from mirror.connect.copies import open_bucket

    config = context.config_if_any()
    try:
        async with open_bucket(copy, config, context.environment, context.clock) as bucket:
            state = await bucket.lock_state()
    except MirrorError as error:
        text = f"whether Object Lock retains it, and how long, is unknown: {error.message}"
    else:
        text = retained(copy.protect, state, context.clock.now())
    return (
        "it holds earlier states with it until mirror copy has sent the store without it and"
        f" mirror copy --prune --keep 7d has deleted what was sent before; {text}"
    )


def retained(protect: timedelta | None, state: LockState, now: datetime) -> str:
    """Until when Object Lock keeps what was sent so far. `protect` is how long it is extended."""
    days = max(state.days or 0, protect.days if protect is not None else 0)
    if state.has_default is None and days:
        return f"Object Lock retains it until {now + timedelta(days=days):%Y-%m-%d}, or longer: {_why(state)}"
    if state.has_default is None:
        return f"whether Object Lock retains it, and how long, is unknown: {_why(state)}"
    if not days:
        return "the bucket has no default retention, so nothing but its policies forbids that"
    who = "nobody" if state.mode == "compliance" else "nobody without a permission of its own"
    return (
        f"Object Lock retains what was sent until today until {now + timedelta(days=days):%Y-%m-%d}"
        f" at the latest: before, {who} can delete it"
    )


def _why(state: LockState) -> str:
    return "; ".join(state.unknown) or "the bucket does not say"
