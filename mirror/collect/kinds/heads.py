"""Heads of pull requests: which are told, where they may be had, and what became of each.

A head is pinned where git gives it, from the repository itself, from a fork, or by its full hash. Where
git does not, the API's patch is kept. What can be had in neither way is lost, and counted as lost; what
was not asked for yet is neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from mirror.bitbucket import fields
from mirror.collect.ports import Work, moment
from mirror.model import Json, JsonObject, Part, PartState, is_hash, time_text

# So many heads that git did not have are remembered, to be pinned should they turn up.
UNPINNED_MAX = 20_000
# A place that refused, or that lacked a head, is asked for it again then.
AGAIN_AFTER = timedelta(days=7)
# So many places are asked in one turn; of forks, those with the newest pull requests first.
PLACES_MAX = 200
# The repository itself, asked by hash.
OWN = ""


@dataclass(frozen=True)
class Elsewhere:
    """Heads that a place may have: `name` is a fork's full name, or OWN."""

    name: str
    wants: Mapping[int, str]


def note_head(work: Work, number: int, thing: Json) -> None:
    """Remember the head of a pull request that was listed, until it is known to be pinned."""
    state, numbers = _state(work), work.numbers("pull_requests")
    told: JsonObject = state.setdefault("heads", {})
    forks: JsonObject = state.setdefault("forks", {})
    head, key = fields.pull_request_head(thing), str(number)
    told.pop(key, None)
    forks.pop(key, None)
    if head is None:
        numbers["headless"].add(number)
        return
    numbers["headless"].discard(number)
    told[key] = head
    fork = fields.fork(thing, work.repository)
    if fork is not None:
        forks[key] = fork


def note_commits(work: Work, number: int, document: JsonObject) -> None:
    """The list of a pull request's commits tells its head in full, where the list of all does not."""
    listed, told = document.get("commits"), _state(work).get("heads") or {}
    value = fields.commit_hash(listed[0]) if listed else None
    if is_hash(value) and str(number) in told and str(value).startswith(told[str(number)]):
        told[str(number)] = value


def note_patch(work: Work, number: int, document: Json) -> None:
    """Remember whether the document of a pull request has its patch. One that stays where the patch was
    asked for and is none was another head's."""
    patched = work.numbers("pull_requests")["patched"]
    has_patch = (
        isinstance(document, dict)
        and isinstance(document.get("patch"), dict)
        and "patch" not in (document.get("_parts") or {})
    )
    (patched.add if has_patch else patched.discard)(number)


def is_unjudged(document: JsonObject) -> bool:
    """Whether a document says neither what the patch is nor that there is none."""
    mark = (document.get("_parts") or {}).get("patch") or {}
    return "patch" not in document and mark.get("state") != PartState.GONE


def note_swept(work: Work) -> None:
    """Every pull request was looked at: what is not known to be patched is not."""
    _state(work)["heads_counted"] = True


def told_heads(work: Work) -> dict[int, str]:
    """The heads of pull requests that are not known to be pinned: those looked at now, and those that
    an earlier run could not pin, or was stopped before it could."""
    saved = _state(work).get("heads") or {}
    return {int(number): str(head) for number, head in saved.items() if number.isdigit()}


def without(work: Work, pinned: Collection[int], unpinned: Collection[int]) -> set[int]:
    """The pull requests whose head git does not have: `unpinned`, and those of which no head is told
    (their fork is gone) that were not `pinned` before."""
    return {*unpinned, *(work.numbers("pull_requests")["headless"].difference(pinned))}


def note_pinned(work: Work, unpinned: Collection[int]) -> None:
    """Of the heads that were told, those but `unpinned` are pinned now."""
    state, told = _state(work), told_heads(work)
    lacking = work.numbers("pull_requests")["lacking"]
    lacking.difference_update(told)
    lacking.update(unpinned)
    left = sorted(number for number in unpinned if number in told)[-UNPINNED_MAX:]
    state["heads"] = {str(number): told[number] for number in left}
    forks = state.get("forks") or {}
    state["forks"] = {str(number): forks[str(number)] for number in left if str(number) in forks}
    known = {OWN, *state["forks"].values()}
    state["asked"] = {name: entry for name, entry in (state.get("asked") or {}).items() if name in known}


def elsewhere(work: Work, unpinned: Collection[int], *, own_only: bool = False) -> list[Elsewhere]:
    """Where the heads that are not pinned are to be asked for now: of each fork, and by hash of the
    repository itself. A place that has none, or refused, is asked again only after a while; those that
    could not be reached when they were last asked come last, so that they keep nobody from being asked."""
    state, told = _state(work), told_heads(work)
    forks, asked = state.get("forks") or {}, state.get("asked") or {}
    places: dict[str, dict[int, str]] = {}
    for number in sorted(unpinned, reverse=True):
        head = told.get(number)
        if head is None:
            continue
        fork = forks.get(str(number))
        if fork is not None and not own_only and _is_due(work, asked.get(fork), number, head):
            places.setdefault(fork, {})[number] = head
        elif is_hash(head) and _is_due(work, asked.get(OWN), number, head):
            places.setdefault(OWN, {})[number] = head
    if OWN in places:
        places[OWN] = places.pop(OWN)  # after the forks

    def trouble(name: str) -> str:
        return (asked.get(name) or {}).get("trouble") or ""

    return [Elsewhere(name, places[name]) for name in sorted(places, key=trouble)[:PLACES_MAX]]


def _is_due(work: Work, entry: JsonObject | None, number: int, head: str) -> bool:
    if entry is None or work.is_due(entry, "at", AGAIN_AFTER):
        return True
    return not entry.get("refused") and (entry.get("lacks") or {}).get(str(number)) != head


def note_trouble(work: Work, place: Elsewhere) -> None:
    """Remember that a place could not be reached, until it answers."""
    asked: JsonObject = _state(work).setdefault("asked", {})
    asked.setdefault(place.name, {})["trouble"] = time_text(work.clock.now())


def note_asked(work: Work, place: Elsewhere, lacking: Collection[int], *, refused: bool) -> None:
    """Remember what a place does not have. The time is that of the first of what is remembered, so
    that new heads do not put off the old ones for ever."""
    asked: JsonObject = _state(work).setdefault("asked", {})
    entry: JsonObject = asked.get(place.name) or {}
    if refused or work.is_due(entry, "at", AGAIN_AFTER) or moment(entry.get("at")) is None:
        entry = {"at": time_text(work.clock.now()), "lacks": {}}
    lacks = {**entry["lacks"], **{str(number): place.wants[number] for number in lacking}}
    if refused or lacks:
        asked[place.name] = {"at": entry["at"], "refused": refused, "lacks": {} if refused else lacks}
    else:
        asked.pop(place.name, None)


def counted(work: Work, code: Part, pinned: Collection[int] | None) -> Part:
    """The part of the code with what became of the heads of pull requests; `pinned` are those that have
    a pin, None where nobody knows (git could not be read)."""
    numbers = work.numbers("pull_requests")
    held = numbers["held"]
    if pinned is None or not held:
        return code
    good = held.intersection(pinned) - numbers["lacking"]
    rest = held - good
    unknown = rest & numbers["patch"]
    patched = (rest & numbers["patched"]) - unknown
    lost = rest - patched - unknown
    if not _state(work).get("heads_counted"):
        unknown, lost = unknown | lost, set()
    counts = {
        **code.counts,
        "pull_request_heads": len(good),
        "pull_request_heads_patched": len(patched),
        "pull_request_heads_lost": len(lost),
    }
    if unknown:
        counts["pull_request_heads_unknown"] = len(unknown)
    return replace(code, counts=counts)


def _state(work: Work) -> JsonObject:
    return work.part_state("pull_requests")
