"""Snippets: what the API gives of each, and which of their git repositories are to be fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeGuard

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, NotFound
from mirror.bitbucket.lists import all_of
from mirror.collect.catalogue import Row
from mirror.collect.context import Context
from mirror.collect.kinds import settings
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.settings import Names, ask, mark_gone, read_with_other
from mirror.collect.marks import Marks
from mirror.collect.outcomes import entries_by_name, incomplete
from mirror.collect.state import SnippetMirrorsState
from mirror.collect.times import parse_time
from mirror.model import Json, JsonObject

PART = "snippets"
FOLDER = "snippets"
# A push need not move anything that the API gives of a snippet.
SWEEP_EVERY = timedelta(days=7)
# A snippet that git gave before and refuses now counts as refused after so long: its server may be wrong.
UNSURE = timedelta(days=3)


def snippet_path(identifier: str) -> str:
    """Where the document of a snippet stands. Ids differ by case; names in the store must not."""
    name = identifier.lower()
    if name != identifier:
        name += "~" + hashlib.sha256(identifier.encode()).hexdigest()[:8]
    return f"{FOLDER}/{name}.json"


def _mirror_of(path: str) -> str:
    return path.removesuffix(".json")


async def _read_snippets(context: Context, client: Client, row: Row) -> None:
    """Each snippet with its files (where it changed), comments and commits. A snippet without an id is
    skipped; none counts as gone then, because it may be that one."""
    several, odd = await entries_by_name(client, row.endpoint, context.names, fields.snippet_id)
    faults = list(odd)
    seen: set[str] = set()
    for identifier, listed in several:
        path = snippet_path(identifier)
        seen.add(path.rpartition("/")[2].removesuffix(".json"))
        if context.draft.is_erased(path):
            continue
        faults += await _Snippet(context, client, identifier, listed).read(path)
        context.checkpoint_if_due()
    if not odd:
        mark_gone(context, FOLDER, seen, "snippet")
    if faults:
        raise incomplete(faults)


class _Snippet:
    """One snippet as it is listed, on its way into its document."""

    def __init__(self, context: Context, client: Client, identifier: str, listed: JsonObject) -> None:
        self._context = context
        self._client = client
        self._listed = listed
        self._names: Names = {**context.names, "snippet": identifier}
        self._marks = Marks()
        self._document: JsonObject = {}

    async def read(self, path: str) -> list[ApiError]:
        """Read what is due of it and put its document; returns why the rest could not be read."""
        old, faults = self._context.document(path), []
        self._marks = Marks.of(old)
        self._marks.remove("snippet")
        self._document = {"comments": None, "commits": None, "files": None, **old}
        is_round = settings.round_priority(self._context) is not None
        children: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("files", self._read_files), ("comments", self._read_comments), ("commits", self._read_commits),
        )  # fmt: skip
        for name, read_child in children:
            is_read = name not in self._marks and self._document[name] is not None
            if not is_round and name != "files" and is_read:
                continue  # only what is lacking is asked for
            try:
                await read_child()
                self._marks.remove(name)
            except ApiError as error:
                faults.append(error)
                self._marks.put_failed(name, error)
        # The addresses change when the workspace is renamed; the update time does not.
        self._document["snippet"] = fields.merged(self._document.get("snippet"), fields.stable(self._listed))
        document = self._marks.on(self._document)
        self._context.put(path, document)
        _note_listed(self._context, path, document)
        return faults

    async def _read_files(self) -> None:
        """Each file, where the snippet changed. Of one that cannot be read the last copy stays, and all are
        due again."""
        before, listed = self._document.get("snippet"), self._listed
        held: JsonObject = self._document.get("files") or {}
        is_unchanged = before is not None and fields.updated_on(before) == fields.updated_on(listed)
        is_whole = self._document.get("files") is not None and "files" not in self._marks
        has_file = self._context.draft.has_file
        if is_unchanged and is_whole and all(has_file(one["sha256"]) for one in held.values()):
            return
        answer = await self._client.get(endpoints.SNIPPET, None, **self._names)
        snippet = fields.stable(answer.object("snippet"))
        kept: JsonObject = {}
        faults: list[ApiError] = []
        for name, node in fields.snippet_files(snippet).items():
            try:
                kept[name] = await self._keep_file(name, node)
            except ApiError as error:
                faults.append(error)
                if name in held:
                    kept[name] = held[name]
        self._document["snippet"], self._document["files"] = snippet, kept
        if faults:
            raise incomplete(faults)

    async def _keep_file(self, name: str, node: str | None) -> JsonObject:
        """One file: of the revision that its address names, or else of the newest."""
        draft = self._context.draft
        places: Names = {**self._names, "name": name}
        if node is not None:
            try:
                return await keep_file(
                    draft, self._client, endpoints.SNIPPET_FILE, name, {**places, "node": node}
                )
            except NotFound:
                pass
        return await keep_file(draft, self._client, endpoints.SNIPPET_FILE_NOW, name, places)

    async def _read_comments(self) -> None:
        self._document["comments"] = await ask(self._client, endpoints.SNIPPET_COMMENTS, self._names)

    async def _read_commits(self) -> None:
        found = await all_of(self._client, endpoints.SNIPPET_COMMITS, None, **self._names)
        self._document["commits"] = [fields.stable(one) for one in found]


READERS: dict[str, settings.Collect] = {
    "snippets": _read_snippets,
    "snippet_files": read_with_other,
    "snippet_comments": read_with_other,
    "snippet_commits": read_with_other,
}


# -- their git repositories


@dataclass(frozen=True)
class DueMirror:
    """A snippet's mirror that is to be fetched: its name in the store, the addresses that it may be cloned
    from, and the version of the snippet, which changes when it moves."""

    mirror: str
    addresses: tuple[str, ...]
    version: str


def _version(document: JsonObject) -> str:
    """The version of a snippet: its update time and its newest commit."""
    commits = document.get("commits") or [None]
    return f"{fields.updated_on(document.get('snippet'))} {fields.commit_hash(commits[0])}"


def _note_listed(context: Context, path: str, document: JsonObject) -> None:
    """Note that a snippet's mirror is due, where the snippet moved since the last fetch."""
    state, mirror = context.state.snippet_mirrors, _mirror_of(path)
    if state.due is None:
        state.due = []
    if (state.fetched or {}).get(mirror) != _version(document) and mirror not in state.due:
        state.due.append(mirror)


def due_mirrors(context: Context) -> list[DueMirror]:
    """The mirrors to fetch: of snippets that moved, and of all of them every `SWEEP_EVERY`."""
    state = context.state.snippet_mirrors
    if context.is_due(state.swept, SWEEP_EVERY):
        state.due = [_mirror_of(path) for path in context.draft.paths(FOLDER)]
        state.swept = context.now
    found = []
    for mirror in state.due or []:
        document = context.draft.get(f"{mirror}.json")
        if _exists(document):
            addresses = tuple(fields.clone_addresses(document["snippet"]))
            found.append(DueMirror(mirror, addresses, _version(document)))
    state.due = [one.mirror for one in found]  # without those that went or were erased meanwhile
    return found


def _exists(document: Json | None) -> TypeGuard[JsonObject]:
    """Whether a snippet exists upstream, by its document."""
    return isinstance(document, dict) and "snippet" in document and "snippet" not in Marks.of(document)


def note_fetched(context: Context, due: DueMirror) -> None:
    """Note that a mirror was fetched."""
    state = context.state.snippet_mirrors
    _note_version(state, due)
    state.due = [one for one in state.due or [] if one != due.mirror]
    state.absent = [one for one in state.absent or [] if one != due.mirror]
    (state.unsure or {}).pop(due.mirror, None)


def note_refused(context: Context, due: DueMirror, *, is_held: bool) -> bool:
    """Note that git does not give a snippet; returns whether that is believed. Then it waits until it moves,
    or for the next sweep. Of a mirror that `is_held` it is believed after `UNSURE`, and the mirror stays
    due."""
    state, now = context.state.snippet_mirrors, context.clock.now()
    if is_held:
        if state.unsure is None:
            state.unsure = {}
        since = state.unsure.setdefault(due.mirror, context.now)
        if now - (parse_time(since) or now) < UNSURE:
            return False
    else:
        _note_version(state, due)
    state.due = [one for one in state.due or [] if one != due.mirror]
    state.absent = sorted({*(state.absent or []), due.mirror})
    return True


def _note_version(state: SnippetMirrorsState, due: DueMirror) -> None:
    if state.fetched is None:
        state.fetched = {}
    state.fetched[due.mirror] = due.version


def absent_mirrors(context: Context) -> Collection[str]:
    """The snippets that git does not give."""
    return context.state.snippet_mirrors.absent or []
