"""One webhook for each workspace: made, compared, removed.

Bitbucket never shows a secret again. So `install` sends it anew each time, and `check` compares the address,
which is made of the secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx

from mirror.bitbucket import hooks as api
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import Denied, MaybeMade
from mirror.bitbucket.hooks import OF_ISSUES, Hook, WantedHook
from mirror.config.settings import Config
from mirror.connect import client_of, network_of
from mirror.discovery import workspaces_of
from mirror.doctor.checks import Check, Report
from mirror.errors import MirrorError
from mirror.hooks.address import HookAddress, address_of, is_public
from mirror.hooks.door import door_check
from mirror.model import Clock, JsonObject, Workspace
from mirror.model.words import counted
from mirror.store.reading.reader import Store

_INSTALL = "run: mirror hooks install"


@dataclass(frozen=True)
class _Place:
    """A workspace, those of its webhooks that are ours, and the one that it should have."""

    client: Client
    workspace: str
    uuid: str
    address: HookAddress
    ours: tuple[Hook, ...]
    wanted: WantedHook

    def check(self, text: str, remedy: str | None = None) -> Check:
        """What is well, or what is not where there is a remedy."""
        return Check(f"{self.workspace}: hook", "ok" if remedy is None else "fail", text, remedy)


_Work = Callable[[_Place], Awaitable[list[Check]]]


async def install(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Make one webhook for each workspace, or set the one that is there right. `dry_run` only tells.
    Failures are reported; raises UsageError for a configuration without hooks."""
    address = await address_of(config, environment)

    async def work(place: _Place) -> list[Check]:
        return await _install(place, dry_run=dry_run)

    checks = [
        *_publicity(address),
        *await _everywhere(config, address, work, clock, environment, budget, transport),
    ]
    return Report(tuple(checks))


async def check(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Compare the webhooks of each workspace with what `install` makes, tell how true they proved, and try
    the door. Raises as `install`."""
    address = await address_of(config, environment)

    with Store.open(config.store) as store:
        judged = store.history().hooks

    async def work(place: _Place) -> list[Check]:
        return [*_compare(place), _truth(place, judged.get(place.uuid))]

    checks = [
        *_publicity(address),
        *await _everywhere(config, address, work, clock, environment, budget, transport),
    ]
    network = await network_of(config, environment)
    return Report((*checks, await door_check(address, network)))


async def remove(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Remove our webhooks from each workspace, and no others. `dry_run` only tells. Raises as `install`."""
    address = await address_of(config, environment)

    async def work(place: _Place) -> list[Check]:
        return await _remove(place, place.ours, dry_run=dry_run) or [place.check("there is none of ours")]

    return Report(tuple(await _everywhere(config, address, work, clock, environment, budget, transport)))


async def _everywhere(
    config: Config,
    address: HookAddress,
    work: _Work,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None,
) -> list[Check]:
    """Do the work in each workspace of the configuration, once."""
    checks: list[Check] = []
    seen: set[str] = set()
    for entry in config.workspaces:
        name = entry.workspace or "workspaces of the credential"
        try:
            async with client_of(
                config, entry, clock=clock, environment=environment, budget=budget, transport=transport
            ) as client:
                for found in await workspaces_of(client, entry.workspace):
                    if found.slug in seen:
                        continue
                    seen.add(found.slug)
                    checks += await _in_one(client, found, address, address.wanted(entry.parts), work)
        except MirrorError as error:
            checks.append(_failed(f"{name}: hook", error))
    return checks


async def _in_one(
    client: Client, workspace: Workspace, address: HookAddress, wanted: WantedHook, work: _Work
) -> list[Check]:
    name = f"{workspace.slug}: hook"
    try:
        hooks = [one for one in await api.hooks_of(client, workspace.slug) if address.is_ours(one)]
        # First the one that needs the least change.
        hooks.sort(key=lambda one: (one.url != address.url, not address.has_known_secret(one), one.uuid))
        return await work(_Place(client, workspace.slug, workspace.uuid, address, tuple(hooks), wanted))
    except Denied as error:
        scope = api.scope_needed(error)
        remedy = error.hint or f"give a credential of this workspace the scope {scope}, or make it by hand"
        return [Check(name, "fail", error.message, remedy, 3)]
    except MirrorError as error:
        return [_failed(name, error)]


def _failed(name: str, error: MirrorError) -> Check:
    return Check(name, "fail", error.message, error.hint, error.exit_code)


def _publicity(address: HookAddress) -> list[Check]:
    if is_public(address.host):
        return []
    text = f"{address.host} is not an address of the public internet: Bitbucket refuses it"
    return [Check("address", "warn", text, "hooks.url must be reachable from Bitbucket")]


# -- install


async def _install(place: _Place, *, dry_run: bool) -> list[Check]:
    if not place.ours:
        if dry_run:
            return [place.check(f"would be made, for {len(place.wanted.events)} events")]
        return [place.check(f"made{_told(await _make(place), place)}")]
    first, *others = place.ours
    differences = _differences(first, place)
    what = f"set right ({'; '.join(differences)})" if differences else "was right; its secret was sent again"
    if dry_run:
        change = "would be " + (what if differences else "sent its secret again")
        return [place.check(change), *await _remove(place, others, dry_run=True)]
    events = await api.change(place.client, place.workspace, first.uuid, place.wanted)
    return [place.check(what + _told(events, place)), *await _remove(place, others, dry_run=False)]


async def _make(place: _Place) -> frozenset[str]:
    try:
        return await api.make(place.client, place.workspace, place.wanted)
    except MaybeMade:
        # A second one would announce everything twice.
        for one in await api.hooks_of(place.client, place.workspace):
            if one.url == place.address.url:
                return one.events
        raise


def _told(events: frozenset[str], place: _Place) -> str:
    """What a webhook announces, in words."""
    lacks = place.wanted.events - events
    return f", for {len(events)} events" + (", without those of issues, which were refused" if lacks else "")


# -- check


def _compare(place: _Place) -> list[Check]:
    if not place.ours:
        return [place.check("missing: nothing announces changes of this workspace", _INSTALL)]
    first, *others = place.ours
    differences = _differences(first, place)
    checks = [place.check(one, _INSTALL) for one in differences]
    if not checks:
        lacks_issues = bool(OF_ISSUES & (place.wanted.events - first.events))
        more = ", but not issues" if lacks_issues else ""
        checks.append(place.check(f"active, announces {len(first.events)} events{more}"))
    checks += [place.check("a second one announces the same again", _INSTALL) for _ in others]
    return checks


def _truth(place: _Place, judged: JsonObject | None) -> Check:
    """Whether webhooks announced what the backups found; `judged` is what the last backup says of it."""
    name = f"{place.workspace}: announced"
    if judged is None:
        return Check(name, "ok", "no backup of the daemon has judged the webhooks yet")
    last, total = int(judged.get("unannounced_changes", 0)), int(judged.get("unannounced_total", 0))
    text = f"the last backup found {counted(last, 'changes')} that no webhook announced; {total} in all"
    remedy = "nothing is lost; where it goes on, webhooks are lost on their way: look at the proxy's log"
    return Check(name, "ok" if last == 0 else "warn", text, remedy)


def _differences(hook: Hook, place: _Place) -> list[str]:
    """What is not as it should be."""
    found = []
    if hook.url != place.address.url:
        known = place.address.has_known_secret(hook)
        found.append(f"its address is that of {'hooks.previous_secret' if known else 'an older secret'}")
    if not hook.is_active:
        found.append("it is inactive")
    if not hook.has_secret:
        found.append("it has no secret: the door refuses what it sends")
    # Bitbucket may refuse the events of issues, whose trackers are retired.
    lacks = place.wanted.events - hook.events - OF_ISSUES
    if lacks:
        found.append(f"it does not announce {', '.join(sorted(lacks))}")
    return found


# -- remove


async def _remove(place: _Place, hooks: tuple[Hook, ...] | list[Hook], *, dry_run: bool) -> list[Check]:
    checks = []
    for one in hooks:
        if not dry_run:
            await api.remove(place.client, place.workspace, one.uuid)
        checks.append(place.check(f"{one.uuid} {'would be removed' if dry_run else 'was removed'}"))
    return checks
