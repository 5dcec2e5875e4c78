"""Heads of pull requests: which there are, where each may be fetched from, and which are pinned.

A head is pinned where git gives it: the repository itself, a fork, or by its full hash. Where git does not,
the API's patch is kept. A head that neither gives is counted as lost, once both were asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from mirror.bitbucket import fields
from mirror.collect.context import Context
from mirror.collect.marks import Marks
from mirror.collect.state import AskedPlace, State
from mirror.collect.times import parse_time
from mirror.model import Json, JsonObject, Part, is_hash

# So many heads that git did not have are remembered, to be pinned if they turn up.
UNPINNED_MAX = 20_000
# A place that refused, or that lacked a head, is asked for it again after so long.
AGAIN_AFTER = timedelta(days=7)
# So many places are asked in one turn; of forks, those with the newest pull requests first.
PLACES_MAX = 200
# The name of the repository itself, asked by hash.
OWN = ""


@dataclass(frozen=True)
class Place:
    """Where heads may be fetched from, by number: `name` is a fork's full name, or OWN."""

    name: str
    wants: Mapping[int, str]


def note_head(context: Context, number: int, thing: Json) -> None:
    """Remember the head of a pull request that was listed, until it is known to be pinned."""
    state = context.state.pull_requests
    if state.heads is None:
        state.heads = {}
    if state.forks is None:
        state.forks = {}
    head, key = fields.pull_request_head(thing), str(number)
    state.heads.pop(key, None)
    state.forks.pop(key, None)
    if head is None:
        state.numbers.headless.add(number)
        return
    state.numbers.headless.discard(number)
    state.heads[key] = head
    fork = fields.fork(thing, context.repository)
    if fork is not None:
        state.forks[key] = fork


def note_commits(state: State, number: int, document: JsonObject) -> None:
    """Take the full hash of a head from the pull request's commits; the list of all may shorten it."""
    listed, heads = document.get("commits"), state.pull_requests.heads or {}
    value = fields.commit_hash(listed[0]) if listed else None
    if is_hash(value) and str(number) in heads and str(value).startswith(heads[str(number)]):
        heads[str(number)] = value


def note_patch(state: State, number: int, document: JsonObject) -> None:
    """Remember whether the document of a pull request has its patch. A patch beside a mark belongs to an
    earlier head."""
    patched = state.pull_requests.numbers.patched
    has_patch = isinstance(document.get("patch"), dict) and "patch" not in Marks.of(document)
    (patched.add if has_patch else patched.discard)(number)


def is_unjudged(document: JsonObject) -> bool:
    """Whether a document says neither what the patch is nor that there is none."""
    return "patch" not in document and not Marks.of(document).is_gone("patch")


def note_swept(context: Context) -> None:
    """Note that every pull request was looked at: one that is not known to be patched is not."""
    context.state.pull_requests.heads_counted = True


def unpinned_heads(state: State) -> dict[int, str]:
    """The heads that are not known to be pinned: those listed now, and those that an earlier run could
    not pin, or was interrupted before it could."""
    saved = state.pull_requests.heads or {}
    return {int(number): str(head) for number, head in saved.items() if number.isdigit()}


def missing_in_git(state: State, pinned: Collection[int], unpinned: Collection[int]) -> set[int]:
    """The pull requests whose head git does not have: `unpinned`, and those without a head in the list
    (their fork is gone) that were not `pinned` before."""
    return {*unpinned, *(state.pull_requests.numbers.headless.difference(pinned))}


def note_pinned(state: State, unpinned: Collection[int]) -> None:
    """Note that all heads but those `unpinned` are pinned now."""
    pull_requests, heads = state.pull_requests, unpinned_heads(state)
    numbers = pull_requests.numbers
    numbers.unpinned.difference_update(heads)
    numbers.unpinned.update(unpinned)
    left = sorted(number for number in unpinned if number in heads)[-UNPINNED_MAX:]
    forks = pull_requests.forks or {}
    pull_requests.heads = {str(number): heads[number] for number in left}
    pull_requests.forks = {str(number): forks[str(number)] for number in left if str(number) in forks}
    known = {OWN, *pull_requests.forks.values()}
    pull_requests.asked = {
        name: entry for name, entry in (pull_requests.asked or {}).items() if name in known
    }


def places_to_ask(context: Context, unpinned: Collection[int], *, own_only: bool = False) -> list[Place]:
    """Where to ask for the heads that are not pinned: each fork, and the repository itself by hash.

    With `own_only` no fork. A place that has none, or refused, is asked again only after a while. Places
    that could not be reached last time come last.
    """
    state, heads = context.state.pull_requests, unpinned_heads(context.state)
    forks, asked = state.forks or {}, state.asked or {}
    places: dict[str, dict[int, str]] = {}
    for number in sorted(unpinned, reverse=True):
        head = heads.get(number)
        if head is None:
            continue
        fork = forks.get(str(number))
        if fork is not None and not own_only and _is_due(context, asked.get(fork), number, head):
            places.setdefault(fork, {})[number] = head
        elif is_hash(head) and _is_due(context, asked.get(OWN), number, head):
            places.setdefault(OWN, {})[number] = head
    if OWN in places:
        places[OWN] = places.pop(OWN)  # after the forks

    def trouble(name: str) -> str:
        return (asked[name].trouble if name in asked else None) or ""

    return [Place(name, places[name]) for name in sorted(places, key=trouble)[:PLACES_MAX]]


def _is_due(context: Context, entry: AskedPlace | None, number: int, head: str) -> bool:
    if entry is None or context.is_due(entry.at, AGAIN_AFTER):
        return True
    return not entry.refused and (entry.lacks or {}).get(str(number)) != head


def note_trouble(context: Context, place: Place) -> None:
    """Remember that a place could not be reached, until it answers."""
    state = context.state.pull_requests
    if state.asked is None:
        state.asked = {}
    state.asked.setdefault(place.name, AskedPlace()).trouble = context.now


def note_answer(context: Context, place: Place, lacking: Collection[int], *, refused: bool) -> None:
    """Remember what a place does not have. The time is that of the first of what is remembered, so that
    new heads do not put off the old ones for ever."""
    state = context.state.pull_requests
    if state.asked is None:
        state.asked = {}
    entry = state.asked.get(place.name) or AskedPlace()
    at, lacks = entry.at, entry.lacks or {}
    if refused or context.is_due(at, AGAIN_AFTER) or parse_time(at) is None:
        at, lacks = context.now, {}
    lacks = {**lacks, **{str(number): place.wants[number] for number in lacking}}
    if refused or lacks:
        state.asked[place.name] = AskedPlace(at=at, refused=refused, lacks={} if refused else lacks)
    else:
        state.asked.pop(place.name, None)


def with_head_counts(state: State, code: Part, pinned: Collection[int] | None) -> Part:
    """The part of the code, with counts of the heads of pull requests: pinned, patched, lost, unknown.

    `pinned` are those that have a pin; None where git could not be read.
    """
    numbers = state.pull_requests.numbers
    held = numbers.held
    if pinned is None or not held:
        return code
    good = held.intersection(pinned) - numbers.unpinned
    rest = held - good
    unknown = rest & numbers.to_ask["patch"]
    patched = (rest & numbers.patched) - unknown
    lost = rest - patched - unknown
    if not state.pull_requests.heads_counted:
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
