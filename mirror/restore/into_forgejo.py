"""Restoring into a Forgejo: from a selector to a plan, and from the plan to a report. See `run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from mirror.auth.secrets import Secret
from mirror.errors import UsageError
from mirror.forgejo import endpoints, fields
from mirror.forgejo.client import Client
from mirror.git.wire.client import GitLogin
from mirror.http.origins import is_loopback, origin
from mirror.http.requests import RequestFailed
from mirror.model import Clock, NoProgress, Progress, Selector
from mirror.restore.carry.forgejo import ForgejoApi
from mirror.restore.carry.report import Report
from mirror.restore.plan.forgejo.order import make_plan
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.shown import Planned
from mirror.restore.restore import FORGEJO
from mirror.restore.session import Goal, Settings, choose, plan_or_carry_out
from mirror.store.reading.reader import Store

_HINT = (
    "as in --to forgejo:https://git.example.org/acme, or …/acme/website with a new name for one repository"
)


@dataclass(frozen=True)
class Place:
    """The server at `url`, an organisation or user there, and the new name of the one repository, where that
    is given."""

    url: str
    owner: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `forgejo:URL/OWNER[/REPOSITORY]`. Of a server below a path, such as `https://example.org/git`,
        the owner alone is written with a slash at its end. Raises UsageError, which never repeats the URL:
        a password may stand in it."""
        url = text.removeprefix(FORGEJO)
        try:
            parts = urlsplit(url)
            is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_server = False
        if not is_server:
            raise UsageError("--to forgejo: the URL of a server is missing or malformed", hint=_HINT)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UsageError(
                "--to forgejo: the URL must hold neither a user name nor a token",
                hint="give the token in FORGEJO_TOKEN",
            )
        if parts.scheme == "http" and not is_loopback(origin(url)):
            raise UsageError(
                "--to forgejo: over plain http the token can be read on its way",
                hint="use https; plain http is accepted for loopback only",
            )
        names = [one for one in parts.path.split("/") if one]
        is_owner = len(names) == 1 or parts.path.endswith("/")
        below, named = (names[:-1], names[-1:]) if is_owner else (names[:-2], names[-2:])
        if not named or not all(fields.is_name(one) for one in named):
            raise UsageError("--to forgejo: name an organisation or user after the URL", hint=_HINT)
        root = "/".join([f"{parts.scheme}://{parts.netloc}", *below])
        return cls(root, *named)

    def __str__(self) -> str:
        return f"{FORGEJO}{self.url}/{self.owner}" + (f"/{self.repository}" if self.repository else "/")


async def run(
    path: Path,
    selector: Selector,
    place: Place,
    settings: Settings,
    *,
    client: Client,
    token: Secret,
    clock: Clock,
    progress: Progress | None = None,
) -> Report | Planned:
    """Restore what `selector` selects of the store at `path` into a Forgejo; in a dry run, plan it. `token`
    is that of `client`, for git. In the options `people` maps uuids to the names of users there.

    Raises UsageError, NoStore and StoreDamaged before anything is sent; Locked where another restore to the
    same owner is running; CredentialRefused and TryLater where the server cannot be asked. What is refused
    later is in the report.
    """
    with Store.open(path) as store:
        login, is_organisation = await _owner(client, place)
        chosen = choose(
            store, selector, settings.at, place=str(place), new_name=place.repository, homes=False
        )
        pairs = [
            (source, ForgejoTarget(place.owner, name, is_organisation))
            for source, name in chosen.repositories
        ]
        plan = make_plan(pairs, settings.options)
        identity = f"{place.url}/{place.owner.lower()}"
        goal = Goal(str(place), identity, quote(identity, safe=""), place.owner, limit=None)
        api = ForgejoApi(client, GitLogin(login, token.reveal()))
        return await plan_or_carry_out(plan, chosen, goal, settings, api, clock, progress or NoProgress())


async def _owner(client: Client, place: Place) -> tuple[str, bool]:
    """The name of the user whose token it is, and whether the owner is an organisation. Raises UsageError
    where the owner is neither that user nor an organisation that the user sees."""
    try:
        login = fields.login_of(await client.get(endpoints.USER))
    except RequestFailed as error:
        if error.status != 404:
            raise
        login = None
    if login is None:
        raise UsageError(
            f"{place.url} does not answer as a Forgejo",
            hint="name the URL of its start page, with /OWNER after it",
        )
    if login.lower() == place.owner.lower():
        return login, False
    try:
        await client.get(endpoints.ORGANISATION, owner=place.owner)
    except RequestFailed as error:
        if error.status != 404:
            raise
        raise UsageError(
            f"{place.url} has no organisation {place.owner}, or hides it from {login}",
            hint=f"create it there, or restore to the user's own repositories with {place.url}/{login}",
        ) from error
    return login, True
