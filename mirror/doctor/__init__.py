"""What stands in the way of a backup, found out before it is needed.

Each check says what it looked at, what it found and what to do. One that could not be made says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import httpx

from mirror.backup.held import known_repositories
from mirror.bitbucket import endpoints, recording
from mirror.bitbucket.budget import Budget
from mirror.bitbucket.client import Answer, Client
from mirror.bitbucket.endpoints import JSON, Endpoint
from mirror.bitbucket.failures import ApiError, Denied, Gone, NotFound
from mirror.collect.catalogue import CATALOGUE, Row, Says, row_of
from mirror.collect.outcomes import is_out_of_reach
from mirror.config.settings import Config, Parts, WorkspaceConfig
from mirror.connect import client_of, network_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater, worst
from mirror.fs import sync_folder
from mirror.git import cgit, lfs_server
from mirror.git.failures import GitForbidden, GitNotFound, GitUnauthorized
from mirror.git.mirrors import GitLogin, probe
from mirror.model import Clock, JsonObject, Repository, Workspace, dumps
from mirror.store.owner import Owner, foreign, owner_of
from mirror.store.reader import Store, StoreDamaged

State = Literal["ok", "warn", "fail"]
EXPIRY_WARNING = timedelta(days=30)
SKEW_MAX = timedelta(minutes=2)
FREE_LEAST = 5 * 1024**3


@dataclass(frozen=True)
class Check:
    """One thing looked at. `code` is the exit code that its failure stands for."""

    name: str
    state: State
    text: str
    remedy: str | None = None
    code: int = 1

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Report:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """The codes of what failed."""
        return tuple(sorted({check.code for check in self.checks if check.state == "fail"}))

    @property
    def exit_code(self) -> int:
        """The exit code."""
        return worst(self.exit_codes)

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "schema": 1,
            "exit_code": self.exit_code,
            "exit_codes": list(self.exit_codes),
            "checks": [check.to_json() for check in self.checks],
        }


async def run(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Check everything that `config` needs. Never raises for what it finds."""
    checks = [*_store_checks(config.store), _git_check(environment)]
    checks += await _network_checks(config, environment)
    for workspace in config.workspaces:
        checks += await _workspace_checks(config, workspace, clock, environment, transport)
    return Report(tuple(checks))


def _failed(name: str, error: MirrorError, remedy: str | None = None) -> Check:
    state: State = "warn" if isinstance(error, TryLater) else "fail"
    text = f"could not be checked: {error.message}" if isinstance(error, TryLater) else error.message
    return Check(name, state, text, remedy or error.hint, error.exit_code)


def _store_checks(path: Path) -> list[Check]:
    name = f"store {path}"
    try:
        with Store.open(path) as store:
            damages: list[StoreDamaged] = []
            number = len(store.repositories(on_damage=damages.append))
            checks = [Check(name, "ok", f"format {store.format}, {number} repositories")]
            checks += [_failed(name, damage) for damage in damages]
    except MirrorError as error:
        checks = [_failed(name, error)]
    owner = owner_of(path)
    if owner is not None:
        checks.append(_owner_check(path, owner))
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    checks.append(_disk_check(place))
    checks.append(_lock_check(place))
    return checks


def _owner_check(path: Path, owner: Owner) -> Check:
    """What in the store is not its owner's: a command that was run as another user leaves it, and the
    owner may not read it."""
    first, count = "", 0
    for name, theirs in foreign(path, owner):
        count += 1
        whose = f"belongs to {theirs.user}" if theirs is not None else "cannot be looked into"
        first = first or f"{name} {whose}"
    if not count:
        return Check("owner", "ok", f"everything in the store belongs to {owner.user}")
    more = f", and {count - 1} more" if count > 1 else ""
    text = f"the store belongs to {owner.user}, but {first}{more}"
    remedy = f"run as root: chown -R {owner.user}:{owner.group} {shlex.quote(str(path))}"
    return Check("owner", "fail", text, remedy)


def _disk_check(place: Path) -> Check:
    free = shutil.disk_usage(place).free
    text = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < FREE_LEAST:
        return Check("disk", "warn", text, "make room: a backup that runs out of disk is incomplete")
    return Check("disk", "ok", text)


def _lock_check(place: Path) -> Check:
    """Locks, rename and fsync: what some network file systems only pretend to do."""
    probe_file = place / f".mirror-doctor-{os.getpid()}"
    moved = probe_file.with_suffix(".moved")
    try:
        descriptor = os.open(probe_file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            second = os.open(probe_file, os.O_RDWR)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Check("locks", "fail", f"{place} gives one lock twice", "use a local file system")
            except BlockingIOError:
                pass
            finally:
                os.close(second)
            os.write(descriptor, b"probe")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        probe_file.rename(moved)
        if not sync_folder(place):
            text = f"{place}: flock, rename and fsync work, but the file system knows no fsync of a folder"
            remedy = "after a power failure the newest files may be missing; use a local file system"
            return Check("locks", "warn", text, remedy)
        return Check("locks", "ok", "flock, rename and fsync work")
    except OSError as error:
        text = f"{place} cannot be written: {error.strerror}"
        remedy = "run as the user who owns the store, or name another place"
        if error.errno == errno.EROFS:
            remedy = "the disk is mounted read-only: mount it for writing, or name another place"
        return Check("locks", "fail", text, remedy)
    finally:
        for one in (probe_file, moved):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)


def _git_check(environment: Mapping[str, str]) -> Check:
    """Which way upkeep goes: packs are joined by ourselves, what else helps is done by C git."""
    ours = "small packs of mirrors are joined by mirror itself"
    found = cgit.find(environment.get("PATH", ""))
    if found is None:
        text = f"{ours}; C git is not installed: large mirrors get no graph of commits, prune frees no code"
        return Check("upkeep", "ok", text, "install git to have both")
    version = cgit.version(found)
    if version is None:
        return Check("upkeep", "warn", f"{ours}; {found} does not run", "mend it, or take it off the PATH")
    text = f"{ours}; {version} ({found}) writes the graph of commits of large ones, and frees code for prune"
    return Check("upkeep", "ok", text)


def _client(
    config: Config,
    workspace: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None,
) -> AbstractAsyncContextManager[Client]:
    # Somebody is waiting: no patience with rate limits here.
    budget = Budget(clock, patience=10)
    return client_of(
        config, workspace, clock=clock, environment=environment, budget=budget, transport=transport
    )


async def _network_checks(config: Config, environment: Mapping[str, str]) -> list[Check]:
    """How servers are reached, which the API, git and LFS heed alike."""
    try:
        network = await network_of(config, environment)
    except MirrorError as error:
        return [_failed("network", error)]
    return [Check(f"network: {name}", "ok", text) for name, text in network.describe()]


async def _workspace_checks(
    config: Config,
    workspace: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None,
) -> list[Check]:
    name = workspace.workspace or "workspaces of the credential"
    checks: list[Check] = []
    try:
        async with _client(config, workspace, clock, environment, transport) as client:
            checks += [_expiry(one.label, one.expires, clock) for one in client.sign_ins if one.expires]
            for found in await workspaces_of(client, workspace.workspace, held=_held(config, workspace)):
                checks.append(Check(f"{found.slug}: sign-in", "ok", f"as {client.sign_ins[0].label}"))
                checks += _renamed(workspace, found)
                checks += await _discovered_checks(config, workspace, client, found.slug, clock)
            checks += [_failed(f"{name}: {who.label}", refusal) for who, refusal in client.refusals]
    except MirrorError as error:
        checks.append(_failed(f"{name}: sign-in", error))
        if isinstance(error, CredentialRefused):
            checks += await _held_checks(config, workspace, clock, environment, transport)
    return checks


def _held(config: Config, workspace: WorkspaceConfig) -> str | None:
    """The uuid of the workspace that the store holds under the configured name, if any."""
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
    text = f"it is called {found.slug} now; it is found by its uuid, which the store knows"
    return [Check(f"{name}: name", "warn", text, "correct its name in the configuration")]


async def _held_checks(
    config: Config,
    workspace: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None,
) -> list[Check]:
    """Where the API refuses the credential: what git says to it, of what the store holds."""
    try:
        with Store.open(config.store) as store:
            known = list(known_repositories(store, workspace, config.workspaces))
        async with _client(config, workspace, clock, environment, transport) as client:
            return [await _git_sign_in(config, client, several[0]) for _, several in known if several]
    except NoStore:
        return []
    except MirrorError as error:
        return [_failed("git", error)]


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
        return [_failed(f"{slug}: repositories", error)]
    whole = "" if found.is_whole else " (a part of the workspace: what is missing here is not deleted)"
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
    """What is said of a workspace that cannot be read itself, by a credential that should."""
    row = row_of("profile", "workspace")
    is_narrow = all(client.kind_of(one) in row.never_for for one in client.sign_ins)
    if not found.is_hidden or is_narrow or row.part in workspace.accept_missing:
        return []
    text = "the workspace itself cannot be read, only what its repositories tell of it"
    hint = f"give the credential the scope {row.endpoint.scope} ({row.endpoint.api_token_scope})"
    return [Check(f"{found.workspace.slug}: profile", "fail", text, hint, 3)]


def _probes(parts: Parts) -> dict[str, list[tuple[Row, ...]]]:
    """By part, the kinds that one request can answer for: they need the same scope. What some kinds of
    credential can never read answers for itself alone."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in CATALOGUE:
        asks_for_more = "{" in _rest(row.endpoint, {"workspace": "", "repository": ""})
        if row.level == "project" or asks_for_more or row.part in ("profile", "repositories"):
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
    """One request for each scope, on one repository, tells what the credential cannot see."""
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
    """Ask for the first of `several` kinds; it answers for all."""
    row, endpoint = several[0], several[0].endpoint
    if endpoint.accept != JSON:
        return await _probe_file(workspace, client, first, several)
    name = f"{first.workspace}: {row.part}"
    kinds = ", ".join(one.kind for one in several)
    query = endpoints.entries(1) if endpoint.page_size else None
    try:
        answer = await client.get(endpoint, query, workspace=first.workspace, repository=first.slug)
    except ApiError as error:
        return _unread(workspace, client, name, first, several, error), None
    except MirrorError as error:
        return _failed(name, error), None
    return Check(name, "ok", f"can be read: {kinds}"), answer


async def _probe_file(
    workspace: WorkspaceConfig, client: Client, first: Repository, several: tuple[Row, ...]
) -> tuple[Check, Answer | None]:
    """As `_probe`, of what is no document."""
    name, kinds = f"{first.workspace}: {several[0].part}", ", ".join(one.kind for one in several)
    try:
        async with client.download(several[0].endpoint, workspace=first.workspace):
            return Check(name, "ok", f"can be read: {kinds}"), None
    except ApiError as error:
        return _unread(workspace, client, name, first, several, error), None
    except MirrorError as error:
        return _failed(name, error), None


def _unread(
    workspace: WorkspaceConfig, client: Client, name: str, first: Repository, several: tuple[Row, ...],
    error: ApiError,
) -> Check:  # fmt: skip
    """What it means that kinds could not be read, as their rows say of refusals."""
    row, endpoint, kinds = several[0], several[0].endpoint, ", ".join(one.kind for one in several)
    if is_out_of_reach([client.kind_of(one) for one in client.sign_ins], row, error):
        text = f"this kind of credential can never read: {kinds}"
        return Check(name, "ok", text, "add a user's API token to the credentials to have it")
    if isinstance(error, Gone) and row.gone is Says.ENDED:
        return Check(name, "ok", f"will not be backed up: {error.message}")
    if isinstance(error, NotFound) and row.not_found is Says.NONE:
        return Check(name, "ok", f"{kinds}: none in {first.full_name}: {row.absence}")
    is_off = isinstance(error, Denied) and not error.required and row.forbidden is Says.OFF
    if is_off or (isinstance(error, NotFound) and row.not_found is Says.OFF):
        text = f"{kinds}: refused in {first.full_name}, which is no gap where {row.absence}: {error.message}"
        return Check(name, "warn", text, "see whether pipelines are switched on there")
    agreed = row.part in workspace.accept_missing or all(
        one.agreed_as in workspace.accept_missing for one in several
    )
    state: State = "ok" if agreed else "fail"
    what = f"will not be backed up{', as agreed' if agreed else ''}"
    remedy = "it always exists: run it again later, and see what the credential may read"
    if isinstance(error, Gone):
        remedy = "run it again tomorrow: Bitbucket announces an end by answering so for some hours"
    if isinstance(error, Denied):
        remedy = f"give the credential the scope {endpoint.scope} ({endpoint.api_token_scope})"
    return Check(name, state, f"{what}: {kinds}: {error.message}", remedy, 3)


def _skew(answer: Answer, clock: Clock) -> Check:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, TypeError, ValueError):
        return Check("clock", "warn", "the server does not tell its time, so the clock could not be checked")
    theirs = theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)
    skew = abs(clock.now() - theirs)
    text = f"{skew.total_seconds():.0f} s from the server's"
    if skew > SKEW_MAX:
        return Check("clock", "warn", text, "set the clock (NTP): snapshots are named by it")
    return Check("clock", "ok", text)


async def _git_sign_in(config: Config, client: Client, first: Repository) -> Check:
    name = f"{first.workspace}: git"
    url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git"
    try:
        refs = await _probed(client, url)
    except CredentialRefused as error:
        return _failed(name, error, "the credential needs the scope repository, and its git user name")
    except MirrorError as error:
        return _failed(name, error)
    return Check(name, "ok", f"{first.full_name} can be cloned ({refs} refs)")


async def _probed(client: Client, url: str) -> int:
    """How many refs git shows to the first credential that it lets in. Raises what it says to the first
    where it lets in none."""
    refusal: MirrorError | None = None
    logins: list[GitLogin | None] = [GitLogin(*one) for one in await client.git_logins()]
    for login in logins or [None]:
        try:
            return await asyncio.to_thread(probe, url, login, network=client.network)
        except (GitUnauthorized, GitForbidden, GitNotFound) as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


async def _wiki(config: Config, workspace: WorkspaceConfig, client: Client, found: Discovered) -> Check:
    """Whether there is a wiki beside the first repository's code. That there is none is no fault."""
    first, name = found.repositories[0], f"{found.workspace.slug}: wiki"
    if not workspace.parts.wiki:
        return Check(name, "ok", "switched off in the configuration")
    url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git/wiki"
    try:
        refs = await _probed(client, url)
    except TryLater as error:
        return _failed(name, error)
    except MirrorError:
        return Check(name, "ok", f"{first.full_name} has none, or none for this credential")
    return Check(name, "ok", f"that of {first.full_name} can be cloned ({refs} refs)")


async def _lfs(config: Config, workspace: WorkspaceConfig, client: Client, found: Discovered) -> Check:
    """Whether the first repository's LFS objects could be asked for. That it has none is no fault."""
    first, name = found.repositories[0], f"{found.workspace.slug}: lfs"
    if not workspace.parts.lfs:
        return Check(name, "ok", "switched off in the configuration")
    try:
        login = await client.git_login()
        url = f"{config.bitbucket.git_url}/{first.workspace}/{first.slug}.git"
        await asyncio.to_thread(
            lfs_server.probe, url, GitLogin(*login) if login else None, network=client.network
        )
    except MirrorError as error:
        return _failed(name, error)
    except lfs_server.LfsFailed as failure:
        if failure.status in (404, 410, 501):
            return Check(name, "ok", f"{first.full_name} has none: {failure.text}")
        remedy = "objects would be told as missing: use another credential, or set parts: {lfs: false}"
        return Check(name, "warn", failure.text, remedy)
    return Check(name, "ok", f"objects of {first.full_name} can be asked for")


# So often in a row a server may have no answer before the rest is left out.
TROUBLES_MAX = 3


@dataclass
class Recorded:
    """The files of a recording, and why the answers of other endpoints are missing, by endpoint.
    `exit_code` is 0 where all was recorded that the credential may see."""

    written: list[Path] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


async def record(
    config: Config,
    folder: Path,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None = None,
) -> Recorded:
    """Save one redacted answer of each endpoint in use to `folder`.

    What cannot be had is missing, with its reason. Read the files before you share them. Raises what
    listing the workspace's repositories raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recorded = Recorded()
    workspace = config.workspaces[0]
    # One salt, so that the same name is the same in all files.
    session = recording.Recording()
    async with _client(config, workspace, clock, environment, transport) as client:
        [target, *_] = await workspaces_of(client, workspace.workspace)
        found = await discover(client, target, Rules(workspace.include, workspace.exclude))
        troubles = 0
        several = {row.endpoint.name: row.endpoint for row in CATALOGUE if row.endpoint.accept == JSON}
        for endpoint in several.values():
            if troubles >= TROUBLES_MAX:
                recorded.missing[endpoint.name] = "not asked for: the server had no answer several times"
                continue
            try:
                answer = await _first_answer(client, endpoint, found)
            except MirrorError as error:
                recorded.missing[endpoint.name] = error.message
                troubles = troubles + 1 if isinstance(error, TryLater) else 0
                if not isinstance(error, Denied | NotFound | Gone):
                    recorded.exit_code = worst((recorded.exit_code, error.exit_code))
                continue
            troubles = 0
            if answer is not None:
                path = folder / f"{endpoint.name.replace(' ', '-')}.json"
                path.write_bytes(dumps(session.redacted(endpoint, answer)))
                recorded.written.append(path)
    return recorded


async def _first_answer(client: Client, endpoint: Endpoint, found: Discovered) -> Answer | None:
    """The answer for the first repository that has one; None for an endpoint that asks for more than
    workspace and repository. Raises why there is none; trouble of the server at once."""
    names: dict[str, str | int] = {"workspace": found.workspace.slug}
    query = endpoints.entries(3) if endpoint.page_size else None
    failure: MirrorError | None = None
    for repository in found.repositories:
        names["repository"] = repository.slug
        if "{" in _rest(endpoint, names):
            return None
        try:
            return await client.get(endpoint, query, **names)
        except ApiError as error:
            failure = error
    if failure is not None:
        raise failure
    return None


def _rest(endpoint: Endpoint, names: Mapping[str, str | int]) -> str:
    text = endpoint.template
    for name in names:
        text = text.replace("{" + name + "}", "")
    return text
