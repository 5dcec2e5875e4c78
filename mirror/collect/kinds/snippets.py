"""Snippets: what the API tells of each, and which of their git repositories are to be fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeGuard

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, BadAnswer, NotFound
from mirror.bitbucket.lists import all_of, all_told
from mirror.collect.catalogue import Row
from mirror.collect.kinds import settings
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.settings import Names, ask, mark_gone
from mirror.collect.outcomes import child_of, not_all
from mirror.collect.ports import Work, moment
from mirror.model import Json, JsonObject, time_text

PART = "snippets"
FOLDER = "snippets"
# A push may move nothing that the API tells of a snippet.
SWEEP_EVERY = timedelta(days=7)
# Where git no longer gives one that the list still has, its server may be mistaken for so long.
UNSURE = timedelta(days=3)
_STATE = "snippet_mirrors"


def snippet_path(identifier: str) -> str:
    """Where the document of a snippet stands. Ids differ by case, names in the store may not."""
    name = identifier.lower()
    if name != identifier:
        name += "~" + hashlib.sha256(identifier.encode()).hexdigest()[:8]
    return f"{FOLDER}/{name}.json"


def _mirror_of(path: str) -> str:
    return path.removesuffix(".json")


async def collect_snippets(work: Work, client: Client, row: Row) -> None:
    """Each with its files (where it changed), comments and commits. One without an id keeps no other out;
    whether another went cannot be said then, because it may be that one."""
    seen: set[str] = set()
    found, lost = await all_told(client, row.endpoint, None, **work.names)
    faults: list[ApiError] = [lost] if lost is not None else []
    are_named = lost is None
    for listed in found:
        try:
            identifier = fields.snippet_id(listed)
        except BadAnswer as error:
            faults.append(error)
            are_named = False
            continue
        path = snippet_path(identifier)
        seen.add(path.rpartition("/")[2].removesuffix(".json"))
        if work.draft.is_erased(path):
            continue
        held = work.draft.get(path)
        old: JsonObject = held if isinstance(held, dict) else {}
        marks = {name: mark for name, mark in (old.get("_parts") or {}).items() if name != "snippet"}
        document: JsonObject = {"comments": None, "commits": None, "files": None, **old, "_parts": marks}
        names = {**work.names, "snippet": identifier}
        is_round = settings.round_priority(work) is not None
        for name, bring in (("files", _files), ("comments", _comments), ("commits", _commits)):
            if not is_round and name != "files" and name not in marks and document[name] is not None:
                continue  # only what is lacking is asked for
            try:
                await bring(work, client, document, listed, names)
                marks.pop(name, None)
            except ApiError as error:
                faults.append(error)
                marks[name] = child_of(error)
        # A workspace that is renamed moves the addresses of its snippets, and not when they were updated.
        document["snippet"] = fields.merged(document.get("snippet"), fields.stable(listed))
        work.put(path, document)
        _note_listed(work, path, document)
        work.tick()
    if are_named:
        mark_gone(work, FOLDER, seen, "snippet")
    if faults:
        raise not_all(faults)


async def _files(work: Work, client: Client, document: JsonObject, listed: JsonObject, names: Names) -> None:
    """Each file, where the snippet changed. One that cannot be had keeps no other out, and what is held of
    it; all are due again then."""
    before = document.get("snippet")
    held: JsonObject = document.get("files") or {}
    unchanged = before is not None and fields.updated_on(before) == fields.updated_on(listed)
    is_whole = document.get("files") is not None and "files" not in document["_parts"]
    if unchanged and is_whole and all(work.draft.has_file(one["sha256"]) for one in held.values()):
        return
    answer = await client.get(endpoints.SNIPPET, None, **names)
    snippet = fields.stable(answer.object("snippet"))
    kept: JsonObject = {}
    faults: list[ApiError] = []
    for name, node in fields.snippet_files(snippet).items():
        try:
            kept[name] = await _file(work, client, name, node, names)
        except ApiError as error:
            faults.append(error)
            if name in held:
                kept[name] = held[name]
    document["snippet"], document["files"] = snippet, kept
    if faults:
        raise not_all(faults)


async def _file(work: Work, client: Client, name: str, node: str | None, names: Names) -> JsonObject:
    """One file: of the revision that its address names, else of the newest, to which the API leads."""
    if node is not None:
        try:
            places: Names = {**names, "node": node, "name": name}
            return await keep_file(work, client, endpoints.SNIPPET_FILE, name, places)
        except NotFound:
            pass
    return await keep_file(work, client, endpoints.SNIPPET_FILE_NOW, name, {**names, "name": name})


async def _comments(
    work: Work, client: Client, document: JsonObject, listed: JsonObject, names: Names
) -> None:
    del work, listed
    document["comments"] = await ask(client, endpoints.SNIPPET_COMMENTS, names)


async def _commits(
    work: Work, client: Client, document: JsonObject, listed: JsonObject, names: Names
) -> None:
    del work, listed
    found = await all_of(client, endpoints.SNIPPET_COMMITS, None, **names)
    document["commits"] = [fields.stable(one) for one in found]


SPECIAL: dict[str, settings.Collect] = {
    "snippets": collect_snippets,
    "snippet_files": settings.with_another,
    "snippet_comments": settings.with_another,
    "snippet_commits": settings.with_another,
}


# -- their git repositories


@dataclass(frozen=True)
class Due:
    """A snippet whose mirror is to be fetched: what the mirror is called, the addresses that it may be
    cloned from, and what tells whether it moved since."""

    mirror: str
    addresses: tuple[str, ...]
    version: str


def _version(document: JsonObject) -> str:
    """What tells whether a snippet moved: its last update, and the newest of its commits."""
    commits = document.get("commits") or [None]
    return f"{fields.updated_on(document.get('snippet'))} {fields.commit_hash(commits[0])}"


def _note_listed(work: Work, path: str, document: JsonObject) -> None:
    """The mirror of a snippet that moved since it was fetched is due."""
    state, mirror = work.part_state(_STATE), _mirror_of(path)
    due: list[str] = state.setdefault("due", [])
    if (state.get("fetched") or {}).get(mirror) != _version(document) and mirror not in due:
        due.append(mirror)


def to_mirror(work: Work) -> list[Due]:
    """The snippets whose mirrors are to be fetched: those that moved, and now and then all."""
    state = work.part_state(_STATE)
    if work.is_due(state, "swept", SWEEP_EVERY):
        state["due"] = [_mirror_of(path) for path in work.draft.paths(FOLDER)]
        state["swept"] = time_text(work.clock.now())
    found = []
    for mirror in state.get("due") or []:
        document = work.draft.get(f"{mirror}.json")
        if _is_there(document):
            addresses = tuple(fields.clone_addresses(document["snippet"]))
            found.append(Due(mirror, addresses, _version(document)))
    state["due"] = [one.mirror for one in found]  # without those that went or were erased meanwhile
    return found


def _is_there(document: Json | None) -> TypeGuard[JsonObject]:
    """Whether a snippet is still there upstream, as far as its document tells."""
    return (
        isinstance(document, dict)
        and "snippet" in document
        and "snippet" not in (document.get("_parts") or {})
    )


def note_mirrored(work: Work, due: Due) -> None:
    """The mirror of a snippet was fetched."""
    state = work.part_state(_STATE)
    state.setdefault("fetched", {})[due.mirror] = due.version
    state["due"] = [one for one in state.get("due") or [] if one != due.mirror]
    state["absent"] = [one for one in state.get("absent") or [] if one != due.mirror]
    state.get("unsure", {}).pop(due.mirror, None)


def note_refused(work: Work, due: Due, *, is_held: bool) -> bool:
    """Git does not give a snippet; returns whether that is a fact, after which it waits for its next move
    or sweep. Of one that `is_held` it is none at once, and that it moved is not forgotten."""
    state, now = work.part_state(_STATE), work.clock.now()
    if is_held:
        since = state.setdefault("unsure", {}).setdefault(due.mirror, time_text(now))
        if now - (moment(since) or now) < UNSURE:
            return False
    else:
        state.setdefault("fetched", {})[due.mirror] = due.version
    state["due"] = [one for one in state.get("due") or [] if one != due.mirror]
    state["absent"] = sorted({*(state.get("absent") or []), due.mirror})
    return True


def without_repository(work: Work) -> Collection[str]:
    """The snippets that git does not give."""
    found: list[str] = work.part_state(_STATE).get("absent") or []
    return found
