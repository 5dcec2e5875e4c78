"""Contradictions between keys of the configuration, and the expiry dates in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.config import shape
from mirror.config.copies import overlaps
from mirror.config.settings import KINDS, Expiry, Schedule, duration_text, shortest_interval
from mirror.config.types import SecretShape
from mirror.config.values import After
from mirror.errors import Fault

# Keys whose value is a secret, or (SECRET_LISTS) a list of secrets: the file names only their sources.
SECRET_LISTS = {"urls"}
_SECRET_KEYS = {
    "token", "client_secret", "password", "shared_secret", "proxy_password", "url", "secret",
    "previous_secret", "database", "access_key_id", "secret_access_key",
    "names_key", *SECRET_LISTS,
}  # fmt: skip
Place = tuple[str | int, ...]
# Keys of such a name without a secret.
_NO_SECRETS: set[Place] = {("hooks", "url")}


def is_secret(place: Place) -> bool:
    """Whether the value at a place is a secret."""
    return bool(place) and place[-1] in _SECRET_KEYS and place not in _NO_SECRETS


def has_secret(place: Place) -> bool:
    """Whether a place is, or is below, that of a secret."""
    return any(is_secret(place[: end + 1]) for end in range(len(place)))


def dotted(place: Place) -> str:
    """A place as a dotted path. An unknown key below a secret's key is omitted: it may be the secret."""
    text = ""
    for number, part in enumerate(place):
        if has_secret(place[:number]) and isinstance(part, str) and part not in SecretShape.model_fields:
            break
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def contradictions(checked: shape.ConfigShape, lines: Mapping[Place, int]) -> list[Fault]:
    """Faults for keys that contradict each other."""
    return [
        Fault(lines.get(place), dotted(place), problem, remedy)
        for place, problem, remedy in (
            *_workspaces(checked),
            *_limits(checked, lines),
            *_web(checked),
            *_schedules(checked),
            *_ping(checked),
            *_copies(checked),
        )
    ]


def _workspaces(checked: shape.ConfigShape) -> Iterator[tuple[Place, str, str]]:
    first: dict[str, int] = {}
    for index, one in enumerate(checked.workspaces):
        name = one.workspace.lower() if one.workspace is not None else None
        if name is not None and first.setdefault(name, index) != index:
            place: Place = ("workspaces", index, "workspace")
            problem = f"is the same workspace as workspaces[{first[name]}]"
            yield place, problem, "keep one of them, with the rules of both"


def _limits(checked: shape.ConfigShape, lines: Mapping[Place, int]) -> Iterator[tuple[Place, str, str]]:
    limits = checked.limits
    if limits.api_reserve >= limits.api_limit:
        key = "api_reserve" if ("limits", "api_reserve") in lines else "api_limit"
        problem = f"leaves no request: {limits.api_reserve} of {limits.api_limit} an hour are reserved"
        yield ("limits", key), problem, "make api_reserve smaller than api_limit"


def _schedules(checked: shape.ConfigShape) -> Iterator[tuple[Place, str, str]]:
    top = checked.schedule
    retentions = [one.retention or checked.retention for one in checked.workspaces] or [checked.retention]
    own = [one.schedule.backup for one in checked.workspaces if one.schedule is not None]
    if isinstance(top.copy, After) and not any((top.backup, *own)):
        yield ("schedule", "copy"), "would never run: no backup is scheduled", "add schedule.backup"
    if top.copy is not None and not checked.copies:
        problem = "is set without copies: there is no place to copy to"
        yield ("schedule", "copy"), problem, "add copies: [{to: s3://bucket/prefix}], or remove schedule.copy"
    if top.prune is not None and not any(retentions):
        yield _nothing_to_prune(("schedule",))
    yield from _jitter(("schedule",), top)
    for index, one in enumerate(checked.workspaces):
        if one.schedule is None:
            continue
        place: Place = ("workspaces", index, "schedule")
        if one.workspace is None:
            problem = "is in an entry without a name: jobs of its own need one workspace"
            yield place, problem, "add `workspace: …` to the entry, or move the schedule to the top"
        if one.schedule.prune is not None and retentions[index] is None:
            yield _nothing_to_prune(place)
        yield from _jitter(place, one.schedule.within(top))


def _nothing_to_prune(place: Place) -> tuple[Place, str, str]:
    problem = "is set without retention: nothing could ever be removed"
    return (*place, "prune"), problem, f"add retention: {{keep_daily: 30}}, or remove {dotted(place)}.prune"


def _jitter(place: Place, schedule: Schedule) -> Iterator[tuple[Place, str, str]]:
    """A job that begins so much later must not come near the next one."""
    for kind in KINDS:
        interval = shortest_interval(schedule, kind)
        if schedule.jitter and interval is not None and schedule.jitter > interval / 2:
            problem = f"is due every {duration_text(interval)} at times: jitter is more than half of that"
            yield (*place, kind), problem, f"make jitter at most {duration_text(interval / 2)}"


def _ping(checked: shape.ConfigShape) -> Iterator[tuple[Place, str, str]]:
    own = [one.schedule is not None and one.schedule.backup is not None for one in checked.workspaces]
    if checked.ping is not None and own and all(own):
        problem = "would never be pinged: each workspace has a backup schedule of its own"
        yield ("ping",), problem, "remove it, or let a workspace follow the schedule at the top"


def _web(checked: shape.ConfigShape) -> Iterator[tuple[Place, str, str]]:
    web = checked.web
    if web is None or web.listen is None or web.listen.is_loopback or web.token or web.trusted_proxies:
        return
    problem = f"lets everybody who reaches {web.listen.text} read the store"
    yield ("web", "listen"), problem, "add web.token or web.trusted_proxies, or listen on 127.0.0.1"


def _copies(checked: shape.ConfigShape) -> Iterator[tuple[Place, str, str]]:
    for index, problem in overlaps(checked.copies):
        yield ("copies", index, "to"), problem, "give each copy a prefix of its own"


def expiries(checked: shape.ConfigShape, lines: Mapping[Place, int]) -> tuple[Expiry, ...]:
    """Every credential with an expiry date."""
    found: list[Expiry] = []
    sections: list[tuple[Place, shape.ConfigShape | shape.WorkspaceShape]] = [((), checked)]
    sections += [(("workspaces", index), one) for index, one in enumerate(checked.workspaces)]
    for place, section in sections:
        several: list[tuple[Place, shape.CredentialShape]] = [
            ((*place, "credentials", index), one) for index, one in enumerate(section.credentials or [])
        ]
        if section.credential is not None:
            several = [((*place, "credential"), section.credential)]
        for inner, one in several:
            expires = getattr(one, "expires", None)
            if expires is not None:
                key = (*inner, "expires")
                found.append(Expiry(lines.get(key), dotted(key), one.kind, expires))
    return tuple(found)
