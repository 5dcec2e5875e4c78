"""What needs a person's attention: the most urgent first, each with its reason and what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from mirror.browse.copied import CopyStatus
from mirror.browse.status import RepositoryStatus, Status, WorkspaceStatus
from mirror.errors import Cancelled, DamageFound
from mirror.model import JsonObject, Scope, time_text
from mirror.model.scope import covering
from mirror.model.words import age, label, label_first_word


class Urgency(IntEnum):
    """How soon somebody should look; the lowest number first."""

    DAMAGE = 1  # something in the store is damaged
    BRAKE = 2  # so much vanished upstream that nothing is pruned until a person decides
    FAILING = 3  # its backups fail
    STALE = 4  # it was not whole for too long
    MISSING = 5  # its last snapshot lacks parts, or there is none
    NOTED = 6  # a run noted something

    @property
    def words(self) -> str:
        """What such a thing is, in one or two words."""
        return _WORDS[self]


_WORDS = {
    Urgency.DAMAGE: "damaged", Urgency.BRAKE: "lost much upstream", Urgency.FAILING: "failing",
    Urgency.STALE: "too old", Urgency.MISSING: "incomplete", Urgency.NOTED: "to be looked at",
}  # fmt: skip
# A command names so many repositories at most; for more it is given without names.
NAMES_MAX = 5
# Kinds of runs of which status tells nothing else.
_TELLS_ALONE = ("verify", "drill")
_DENIED = "denied: "  # begins what the credential may not read
# Outcomes of a repository that the last run did not get to, with what that means.
_NOT_TRIED = {
    "absent": "the last list from Bitbucket does not have it; everything of it is kept",
    "unreached": "no list from Bitbucket has it, and whether it is gone is unknown; everything of it is kept",
    "locked": "another run held its lock",
    "pending": "the last run ended before it",
}


@dataclass(frozen=True)
class Concern:
    """Why something needs attention. `name` is that of a repository or workspace; empty: the store itself.
    `command` is what to type next, without `mirror`; empty where nothing is to be typed."""

    name: str
    urgency: Urgency
    reason: str
    command: str = ""

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "name": self.name, "urgency": self.urgency.name.lower(), "reason": self.reason,
            "command": self.command,
        }  # fmt: skip


def concerns(
    found: Status, late: Mapping[str, str], copies: Sequence[CopyStatus] | None = None
) -> list[Concern]:
    """What needs attention in `found`, the most urgent first. `late` says of repositories and workspaces that
    they are too old, by name. `copies` are those of `found` as the configuration judges them, where there is
    one."""
    several = [*_of_store(found)]
    for copy in found.copies if copies is None else copies:
        several += _of_copy(copy)
    for repository in found.repositories:
        several += _of_repository(repository, late, found.losses)
    for workspace in found.workspaces:
        several += _of_workspace(workspace, late)
    return sorted(dict.fromkeys(several), key=lambda one: (one.urgency, one.name.lower(), one.name))


def _of_store(found: Status) -> Iterator[Concern]:
    folders = {one.folder: one.name for one in found.repositories}
    for text in found.damage:
        names = [folders[part] for part in text.partition(":")[0].split("/") if part in folders]
        name = names[0] if names else ""
        yield Concern(name, Urgency.DAMAGE, text, f"verify {name}".rstrip())
    for text in found.losses:
        name = text.partition(": ")[0]
        reason = f"{text.removeprefix(f'{name}: ')}; nothing is pruned there until you accept that"
        yield Concern(name, Urgency.BRAKE, reason, f"accept-loss {name}")
    yield from _of_jobs(found)


def _of_jobs(found: Status) -> Iterator[Concern]:
    """The last runs that went wrong as a whole, which no repository tells. What `found` says already is left
    out, and what a later run of the same or more made good."""
    told = (*found.damage, *found.losses)
    for job, last in found.jobs.items():
        kind, scope = Scope.of_job(job)
        if kind == "copy":
            continue  # each copy is told by its address
        code, texts = last["exit_code"], [one for one in last["problems"] if not one.startswith(told)]
        is_bad = texts or (kind in _TELLS_ALONE and code != 0)
        if not is_bad or code == Cancelled.exit_code or _is_followed(found.jobs, kind, scope, last):
            continue
        urgency = Urgency.DAMAGE if code == DamageFound.exit_code else Urgency.FAILING
        for text in texts or [""]:
            reason = f"the last {job} ended with {code}" + (f": {text}" if text else "")
            yield Concern("", urgency, reason, kind)


def _of_copy(one: CopyStatus) -> Iterator[Concern]:
    """The concerns of one copy. One that the configuration does not name any more needs nothing."""
    copy = f"the copy at {one.to}"
    if one.is_configured is False:
        return
    if not one.is_made:
        yield Concern("", Urgency.MISSING, f"{copy} was never made", "copy")
    elif one.failure:
        good = (
            "it was never good"
            if one.last_good is None
            else f"it was last good at {time_text(one.last_good)}"
        )
        is_damage = one.last is not None and one.last["exit_code"] == DamageFound.exit_code
        urgency = Urgency.DAMAGE if is_damage else Urgency.FAILING
        yield Concern("", urgency, f"{copy}: {one.failure}; {good}", "copy")
    elif one.late:
        yield Concern("", Urgency.STALE, f"{copy} {one.late}", "copy")
    if one.damage:
        yield Concern("", Urgency.DAMAGE, f"{copy}: {one.damage}", "copy --check")


def _is_followed(jobs: Mapping[str, JsonObject], kind: str, scope: Scope, last: JsonObject) -> bool:
    """Whether a later run had all that the run `last` of this kind and scope had."""
    return any(one["ended"] > last["ended"] for one in covering(jobs, kind, scope))


def _of_repository(
    one: RepositoryStatus, late: Mapping[str, str], losses: Sequence[str]
) -> Iterator[Concern]:
    """The concerns of one repository. `losses` of the store are told as such, and not once more here."""
    if one.is_settled:
        return
    again = f"backup {one.name}"
    told = set()
    if (failing := one.failing) is not None:
        many = f"failed {failing.runs} runs in a row since {failing.since}"
        text = many if failing.is_reported else "the last backup failed"
        told.add(failing.reason)
        command = "doctor" if _is_denial(failing.reason.partition(" ")[2]) else again
        yield Concern(one.name, Urgency.FAILING, f"{text}: {failing.reason}", command)
    if one.name in late:
        yield Concern(one.name, Urgency.STALE, late[one.name], again)
    if one.last_snapshot is None:
        yield Concern(one.name, Urgency.MISSING, "has no snapshot yet", again)
    lacking = {part: text for part, text in one.missing.items() if f"{label(part)} {text}" not in told}
    yield from _missing(one.name, lacking)
    reasons = {text.removeprefix(_DENIED) for text in one.missing.values()}
    noted = [
        text
        for text in one.problems
        if text not in told
        and not any(text.endswith(reason) for reason in reasons)
        and not text.startswith(tuple(f"{loss};" for loss in losses))
    ]
    if not noted and one.state in _NOT_TRIED:
        noted = [_NOT_TRIED[one.state]]
    for text in noted:
        yield Concern(one.name, Urgency.NOTED, label_first_word(text))


def _of_workspace(one: WorkspaceStatus, late: Mapping[str, str]) -> Iterator[Concern]:
    if one.name in late:
        yield Concern(one.name, Urgency.STALE, late[one.name], f"backup {one.name}")
    yield from _missing(one.name, one.missing)


def _missing(name: str, missing: Mapping[str, str]) -> Iterator[Concern]:
    """Parts that lack for the same reason, such as a refused credential, are told together."""
    parts: dict[str, list[str]] = {}
    for part, text in missing.items():
        parts.setdefault(text, []).append(label(part))
    for text, several in parts.items():
        command = "doctor" if _is_denial(text) else f"backup {name}"
        yield Concern(name, Urgency.MISSING, f"{', '.join(several)} {text}", command)


def _is_denial(text: str) -> bool:
    """Whether a person has to change a credential first."""
    return text.startswith(_DENIED.rstrip(": "))


@dataclass(frozen=True)
class Shared:
    """What several repositories and workspaces have in common: how urgent it is, why, and what to type."""

    names: tuple[str, ...]
    urgency: Urgency
    reason: str
    command: str


def shared(several: Sequence[Concern]) -> list[Shared]:
    """`several` with each reason once, in the same order: a scope that is missing for 500 repositories is one
    thing to repair. A loss is accepted one by one."""
    groups: dict[tuple[Urgency, str, str], list[Concern]] = {}
    for one in several:
        alone = one.name if one.urgency in (Urgency.DAMAGE, Urgency.BRAKE) else ""
        groups.setdefault((one.urgency, one.reason, alone), []).append(one)
    return [
        Shared(tuple(one.name for one in found), urgency, reason, _command_for(found))
        for (urgency, reason, _), found in groups.items()
    ]


def _command_for(found: Sequence[Concern]) -> str:
    """One command for all of them."""
    commands = list(dict.fromkeys(one.command for one in found))
    verb = commands[0].partition(" ")[0]
    if len(commands) == 1 or not verb:
        return commands[0]
    if len(found) > NAMES_MAX:
        return verb
    return " ".join([verb, *(one.name for one in found)])


def well(found: Status, several: Sequence[Concern]) -> list[RepositoryStatus]:
    """The repositories of which no concern speaks, the settled ones among them."""
    names = {one.name for one in several}
    return [one for one in found.repositories if one.name not in names]


def verdict(found: Status, several: Sequence[Concern]) -> str:
    """How the store is, in one sentence."""
    number = len(found.repositories)
    fine = len(well(found, several))
    if not several:
        if not number:
            return "Nothing is backed up yet: run mirror backup."
        return "The one repository is well." if number == 1 else f"All {number} repositories are well."
    worst: dict[str, Urgency] = {}
    for one in several:
        worst.setdefault(one.name, one.urgency)
    counts = Counter(worst.values())
    kinds = ", ".join(f"{counts[urgency]} {urgency.words}" for urgency in sorted(counts))
    verb = "needs" if len(worst) == 1 else "need"
    return f"{len(worst)} {verb} attention ({kinds}); {fine} of {number} repositories are well."


def when_confirmed(several: Sequence[RepositoryStatus], now: datetime) -> str:
    """When repositories were last confirmed: `the newest 3 min ago, the oldest 5 h ago`; empty where that is
    not known of any."""
    times = sorted(one.last_confirmed for one in several if one.last_confirmed is not None)
    if not times:
        return ""
    oldest, newest = age(now - times[0]), age(now - times[-1])
    return f"confirmed {newest} ago" if oldest == newest else f"confirmed {newest} to {oldest} ago"
