"""Checks of what the credentials of a workspace can read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

import httpx

from mirror.backup.context import named_workspaces
from mirror.backup.stored import stored_repositories
from mirror.bitbucket import endpoints
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Answer, Client
from mirror.bitbucket.endpoints import JSON, Endpoint
from mirror.bitbucket.failures import ApiError, Denied, Gone, NotFound
from mirror.collect.catalogue import CATALOGUE, Meaning, Row, row_of
from mirror.collect.outcomes import is_out_of_reach
from mirror.config.settings import Config, Parts, WorkspaceConfig
from mirror.connect import ask_git, client_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.doctor.checks import Check, State, failed
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater
from mirror.git.lfs import batch_api
from mirror.git.mirrors.fetch import GitLogin, probe
from mirror.model import Clock, Repository, Workspace
from mirror.store.reading.reader import Store

EXPIRY_WARNING = timedelta(days=30)
SKEW_MAX = timedelta(minutes=2)


async def workspace_checks(
    config: Config,
    workspace: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None,
) -> list[Check]:
    """Checks of what the credentials of a workspace can read, by the API and by git."""
    name = workspace.workspace or "workspaces of the credential"
    checks: list[Check] = []
    try:
        async with client_of(
            config, workspace, clock=clock, environment=environment, budget=budget, transport=transport
        ) as client:
            checks += [_expiry(one.label, one.expires, clock) for one in client.sign_ins if one.expires]
            for found in await workspaces_of(
                client, workspace.workspace, held=_known_uuid(config, workspace)
            ):
                checks.append(Check(f"{found.slug}: sign-in", "ok", f"as {client.sign_ins[0].label}"))
                checks += _renamed(workspace, found)
                checks += await _discovered_checks(config, workspace, client, found.slug, clock)
            checks += [failed(f"{name}: {who.label}", refusal) for who, refusal in client.refusals]
    except MirrorError as error:
        checks.append(failed(f"{name}: sign-in", error))
        if isinstance(error, CredentialRefused):
            checks += await _git_only_checks(config, workspace, clock, environment, budget, transport)
    return checks


def _known_uuid(config: Config, workspace: WorkspaceConfig) -> str | None:
    """The uuid that the store has for the configured workspace name, if any."""
    if workspace.workspace is None:
        return None
    try:
        with Store.open(config.store) as store:
            return store.uuid_of_workspace(workspace.workspace)
    except MirrorError:
        return None


def _renamed(workspace: WorkspaceConfig, found: Workspace) -> list[Check]:
    name = workspace.workspace
    if name is None or name.lower() in (found.slug.lower(), found.uuid.lower()):
        return []
    text = f"it is called {found.slug} now; it was found by its uuid, which is in the store"
    return [Check(f"{name}: name", "warn", text, "correct the name in the configuration")]


async def _git_only_checks(
    config: Config,
    workspace: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None,
) -> list[Check]:
    """Where the API refuses the credential: whether git accepts it for the repositories in the store."""
    try:
        with Store.open(config.store) as store:
            known = list(stored_repositories(store, workspace, named_workspaces(config)))
        async with client_of(
            config, workspace, clock=clock, environment=environment, budget=budget, transport=transport
        ) as client:
            return [await _git_sign_in(config, client, several[0]) for _, several in known if several]
    except NoStore:
        return []
    except MirrorError as error:
        return [failed("git", error)]


def _expiry(label: str, expires: date, clock: Clock) -> Check:
    left = expires - clock.now().date()
    if left < timedelta(0):
        return Check(f"expiry of {label}", "fail", f"expired on {expires}", "make a new token", 12)
    state: State = "warn" if left <= EXPIRY_WARNING else "ok"
    return Check(
        f"expiry of {label}", state, f"expires on {expires}, in {left.days} days", "make a new token in time"
    )


async def _discovered_checks(
    config: Config, workspace: WorkspaceConfig, client: Client, slug: str, clock: Clock
) -> list[Check]:
    checks: list[Check] = []
    try:
        [target] = await workspaces_of(client, slug)
        found = await discover(client, target, Rules(workspace.include, workspace.exclude))
    except MirrorError as error:
        return [failed(f"{slug}: repositories", error)]
    whole = "" if found.is_whole else " (part of the workspace: what is missing here is not deleted)"
    checks.append(Check(f"{slug}: repositories", "ok", f"{len(found.repositories)} chosen{whole}"))
    checks += [Check(f"{slug}: repositories", "fail", one.text, None, one.code) for one in found.problems]
    checks += _profile(workspace, client, found)
    if not found.repositories:
        return checks
    checks += await _scope_checks(workspace, client, found, clock)
    checks.append(await _git_sign_in(config, client, found.repositories[0]))
    checks.append(await _wiki(config, workspace, client, found))
    checks.append(await _lfs(config, workspace, client, found))
    used, limit = client.budget.used(client.sign_ins[0].identity, "api")
    checks.append(Check(f"{slug}: requests", "ok", f"{used} of {limit} an hour used just now"))
    return checks


def _profile(workspace: WorkspaceConfig, client: Client, found: Discovered) -> list[Check]:
    """A failure where the workspace itself cannot be read by a credential that should."""
    row = row_of("profile", "workspace")
    is_narrow = all(client.kind_of(one) in row.never_for for one in client.sign_ins)
    if not found.is_hidden or is_narrow or row.part in workspace.accept_missing:
        return []
    text = "the workspace itself cannot be read, only what its repositories say about it"
    hint = f"give the credential the scope {row.endpoint.scope} ({row.endpoint.api_token_scope})"
    return [Check(f"{found.workspace.slug}: profile", "fail", text, hint, 3)]


def _probes(parts: Parts) -> dict[str, list[tuple[Row, ...]]]:
    """By part, groups of kinds that one request can check because they need the same scope. A kind that some
    kinds of credential can never read is a group of its own."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in CATALOGUE:
        needs_more = "{" in rest_of(row.endpoint, {"workspace": "", "repository": ""})
        if row.level == "project" or needs_more or row.part in ("profile", "repositories"):
            continue
        alone = row.kind if row.never_for and row.part != "issues" else ""
        groups.setdefault((row.part, row.level, row.endpoint.scope, alone), []).append(row)
    found: dict[str, list[tuple[Row, ...]]] = {}
    for (part, *_), several in groups.items():
        if getattr(parts, part):
            found.setdefault(part, []).append(tuple(several))
    return found


async def _scope_checks(
    workspace: WorkspaceConfig, client: Client, found: Discovered, clock: Clock
) -> list[Check]:
    """One request for each scope, on one repository, to find what the credential cannot read."""
    first = found.repositories[0]
    checks: list[Check] = []
    probes = _probes(workspace.parts)
    for part in dict.fromkeys(row.part for row in CATALOGUE):
        if part not in ("profile", "repositories") and not getattr(workspace.parts, part):
            checks.append(Check(f"{found.workspace.slug}: {part}", "ok", "switched off in the configuration"))
        for several in probes.get(part, ()):
            check, answer = await _probe(workspace, client, first, several)
            checks.append(check)
            if answer is not None and part == "pull_requests":
                checks.append(_skew(answer, clock))
    return checks


async def _probe(
    workspace: WorkspaceConfig, client: Client, first: Repository, several: tuple[Row, ...]
) -> tuple[Check, Answer | None]:
    """Request the first of `several` kinds; the result counts for all of them. Returns its JSON too."""
    endpoint = several[0].endpoint
    name = f"{first.workspace}: {several[0].part}"
    kinds = ", ".join(one.kind for one in several)
    answer: Answer | None = None
    try:
        if endpoint.accept == JSON:
            query = endpoints.entries(1) if endpoint.page_size else None
            answer = await client.get(endpoint, query, workspace=first.workspace, repository=first.slug)
        else:
            async with client.download(endpoint, workspace=first.workspace):
                pass
    except ApiError as error:
        return _unread(workspace, client, name, first, several, error), None
    except MirrorError as error:
        return failed(name, error), None
    return Check(name, "ok", f"can be read: {kinds}"), answer


def _unread(
    workspace: WorkspaceConfig, client: Client, name: str, first: Repository, several: tuple[Row, ...],
    error: ApiError,
) -> Check:  # fmt: skip
    """The check for kinds that could not be read; their catalogue rows say what a refusal means."""
    row, endpoint, kinds = several[0], several[0].endpoint, ", ".join(one.kind for one in several)
    if is_out_of_reach([client.kind_of(one) for one in client.sign_ins], row, error):
        text = f"this kind of credential can never read: {kinds}"
        return Check(name, "ok", text, "add a user's API token to the credentials to back it up")
    if isinstance(error, Gone) and row.gone is Meaning.ENDED:
        return Check(name, "ok", f"will not be backed up: {error.message}")
    if isinstance(error, NotFound) and row.not_found is Meaning.NONE:
        return Check(name, "ok", f"{kinds}: none in {first.full_name}: {row.absence}")
    is_off = isinstance(error, Denied) and not error.required and row.forbidden is Meaning.OFF
    if is_off or (isinstance(error, NotFound) and row.not_found is Meaning.OFF):
        text = (
            f"{kinds}: refused in {first.full_name}, which is expected where {row.absence}: {error.message}"
        )
        return Check(name, "warn", text, "check whether pipelines are enabled there")
    accepted = row.part in workspace.accept_missing or all(
        one.accepted_as in workspace.accept_missing for one in several
    )
    state: State = "ok" if accepted else "fail"
    what = f"will not be backed up{', as accepted' if accepted else ''}"
    remedy = "it always exists: run this again later, and check the scopes of the credential"
    if isinstance(error, Gone):
        remedy = "run this again tomorrow: Bitbucket announces a removal by answering 410 for some hours"
    if isinstance(error, Denied):
        remedy = f"give the credential the scope {endpoint.scope} ({endpoint.api_token_scope})"
    return Check(name, state, f"{what}: {kinds}: {error.message}", remedy, 3)


def rest_of(endpoint: Endpoint, names: Mapping[str, str | int]) -> str:
    """The path of an endpoint without the placeholders that `names` fill."""
    text = endpoint.template
    for name in names:
        text = text.replace("{" + name + "}", "")
    return text


def _skew(answer: Answer, clock: Clock) -> Check:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, TypeError, ValueError):
        return Check("clock", "warn", "the server sends no date, so the clock could not be checked")
    theirs = theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)
    skew = abs(clock.now() - theirs)
    text = f"{skew.total_seconds():.0f} s from the server's"
    if skew > SKEW_MAX:
        return Check("clock", "warn", text, "set the clock (NTP): snapshots are named after it")
    return Check("clock", "ok", text)


async def _git_sign_in(config: Config, client: Client, first: Repository) -> Check:
    name = f"{first.workspace}: git"
    url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git"
    try:
        refs = await ask_git(client, partial(probe, url, network=client.network))
    except CredentialRefused as error:
        return failed(
            name,
            error,
            "the credential needs the scope repository, and its matching git user name",
        )
    except MirrorError as error:
        return failed(name, error)
    return Check(name, "ok", f"{first.full_name} can be cloned ({refs} refs)")


async def _wiki(config: Config, workspace: WorkspaceConfig, client: Client, found: Discovered) -> Check:
    """Whether the first repository's wiki can be cloned. Having none is no fault."""
    first, name = found.repositories[0], f"{found.workspace.slug}: wiki"
    if not workspace.parts.wiki:
        return Check(name, "ok", "switched off in the configuration")
    url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git/wiki"
    try:
        refs = await ask_git(client, partial(probe, url, network=client.network))
    except TryLater as error:
        return failed(name, error)
    except MirrorError:
        return Check(name, "ok", f"{first.full_name} has none, or none for this credential")
    return Check(name, "ok", f"that of {first.full_name} can be cloned ({refs} refs)")


async def _lfs(config: Config, workspace: WorkspaceConfig, client: Client, found: Discovered) -> Check:
    """Whether the LFS server of the first repository answers. Having none is no fault."""
    first, name = found.repositories[0], f"{found.workspace.slug}: lfs"
    if not workspace.parts.lfs:
        return Check(name, "ok", "switched off in the configuration")
    try:
        login = await client.git_login()
        url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git"
        await asyncio.to_thread(
            batch_api.probe, url, GitLogin(*login) if login else None, network=client.network
        )
    except MirrorError as error:
        return failed(name, error)
    except batch_api.LfsFailed as failure:
        if failure.status in (404, 410, 501):
            return Check(name, "ok", f"{first.full_name} has none: {failure.text}")
        remedy = "objects would be reported as missing: use another credential, or set parts: {lfs: false}"
        return Check(name, "warn", failure.text, remedy)
    return Check(name, "ok", f"objects of {first.full_name} can be requested")
