"""Comparing a repository, or what belongs to a workspace itself, with its restored copy."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.bitbucket.settable import Thing
from mirror.bitbucket.settable import things as all_things
from mirror.collect.marks import Marks
from mirror.model import Json, JsonObject
from mirror.restore.comparison.differences import How
from mirror.restore.comparison.discussions import PullRequests, compare_commits, compare_texts
from mirror.restore.comparison.documents import (
    COMMITS,
    ELSEWHERE,
    LISTS,
    NESTS,
    NEVER,
    PULL_REQUESTS,
    REPOSITORY,
    SNIPPETS,
    WHOLE,
    WORKSPACE_LISTS,
    WORKSPACE_NESTS,
    WORKSPACE_NEVER,
    Nest,
    reason,
)
from mirror.restore.comparison.git import compare_code
from mirror.restore.comparison.matching import ERASED, GONE, NEVER_READ, Match, is_erased, key_of, name_of
from mirror.restore.comparison.sides import Side, object_at

_NEW_COMMIT = "its files are sent as one new commit, and the backup has its history"
_DOWNLOADS = "downloads.json"
_CONTENT = "_content"


def compare_repository(match: Match, original: Side, copy: Side) -> None:
    """Compare a repository with its copy, into `match.result`. Raises StoreDamaged."""
    for path, thing in WHOLE.items():
        _whole(match, path, thing, original.document(path), copy.document(path))
    for path, thing in LISTS.items():
        match.things(path, thing, original.document(path), copy.document(path))
    for folder, nest in NESTS.items():
        _nest(match, folder, nest, original, copy)
    _downloads(match, original.document(_DOWNLOADS), copy.document(_DOWNLOADS))
    pulls = PullRequests(match, original, copy)
    pulls.compare()
    compare_commits(match, original, copy)
    compare_code(match, original, copy, frozenset(pulls.copies.values()))
    known = {*WHOLE, *LISTS, _DOWNLOADS}
    folders = {*NESTS, PULL_REQUESTS, COMMITS}
    _unknown(match, original, known, folders, NEVER)


def compare_workspace(match: Match, original: Side, copy: Side) -> None:
    """Compare what belongs to a workspace itself with its copy, into `match.result`. Raises StoreDamaged."""
    for path, thing in WORKSPACE_LISTS.items():
        match.things(path, thing, original.document(path), copy.document(path))
    for folder, nest in WORKSPACE_NESTS.items():
        _nest(match, folder, nest, original, copy)
    _snippets(match, original, copy)
    _unknown(match, original, set(WORKSPACE_LISTS), {*WORKSPACE_NESTS, SNIPPETS}, WORKSPACE_NEVER)


def _unknown(
    match: Match, original: Side, known: set[str], folders: set[str], table: Mapping[str, str]
) -> None:
    """Count the documents, and note those that nothing here compares."""
    for path in original.paths():
        match.result.documents += 1
        if path in known or path.partition("/")[0] in folders or reason(path, ELSEWHERE):
            continue
        why = reason(path, table)
        if why is None:
            match.note(path, "document", "", How.MISSING)
        elif original.document(path):
            match.note(path, "document", "", How.MISSING, why=why)


def _whole(match: Match, path: str, thing: Thing, original: Json, copy: Json) -> None:
    """Compare a document that is one thing."""
    if original is None:
        # Everything else is always there, and was not read then. Pipelines may never have been on.
        if thing is all_things.PIPELINES_CONFIG and isinstance(copy, dict) and copy.get("enabled") is True:
            match.note(path, thing.name, "", How.MORE)
        elif copy is not None:
            match.result.known[thing.name, "all", NEVER_READ] += 1
    elif is_erased(original):
        match.note(path, thing.name, "", How.MISSING, why=ERASED)
    elif not isinstance(copy, dict):
        match.note(path, thing.name, "", How.MISSING)
    elif isinstance(original, dict):
        instead: dict[str, tuple[Json, Json]] = {}
        if path == REPOSITORY and original.get("slug") != copy.get("slug"):
            instead["name"] = (None, None)  # whoever restores it may give it another name
        match.fields(path, thing, "", original, copy, instead=instead)


def _nest(match: Match, folder: str, nest: Nest, original: Side, copy: Side) -> None:
    """Compare documents that hold a thing and what belongs to it."""
    olds, news = _documents(original, folder), _documents(copy, folder)
    if not olds and not original.has_read("settings"):
        match.result.known[nest.thing.name, "all", NEVER_READ] += 1
        return
    gone = [path for path, one in olds.items() if Marks.of(one).is_gone(nest.key)]
    for path in gone:
        match.note(path, nest.thing.name, _name(nest, olds[path]), How.MISSING, why=GONE)
    by_key: dict[bytes, list[tuple[str, JsonObject]]] = {}
    for path, one in news.items():
        by_key.setdefault(key_of(nest.thing, _object(one, nest.key), {}), []).append((path, one))
    for path, old in olds.items():
        if path in gone:
            continue
        key = key_of(nest.thing, _object(old, nest.key), match.people)
        found = by_key.get(key, [])
        if not found:
            match.note(path, nest.thing.name, _name(nest, old), How.MISSING)
            continue
        _, new = found.pop(0)
        _pair(match, path, nest, old, new)
    for path, new in [one for several in by_key.values() for one in several]:
        match.note(path, nest.thing.name, _name(nest, new), How.MORE)


def _pair(match: Match, path: str, nest: Nest, old: JsonObject, new: JsonObject) -> None:
    name = _name(nest, old)
    document = f"{path} ({name})"
    match.fields(path, nest.thing, name, _object(old, nest.key), _object(new, nest.key))
    for child, thing in nest.lists.items():
        match.things(document, thing, old.get(child), new.get(child))
    for child, thing in nest.wholes.items():
        _whole(match, document, thing, old.get(child), new.get(child))
    known = {nest.key, "_parts", *nest.lists, *nest.wholes, *nest.never}
    for child in sorted(old.keys() - known):
        match.note(document, "part", child, How.MISSING)


def _downloads(match: Match, original: Json, copy: Json) -> None:
    """Compare the downloads, with the content of each file."""
    match.things(_DOWNLOADS, all_things.DOWNLOAD, original, copy)
    before, after = _contents(original), _contents(copy)
    _files(match, _DOWNLOADS, {name: one for name, one in before.items() if name in after}, after)


def _contents(downloads: Json) -> dict[str, Json]:
    """By name, the stored file of each download."""
    several = [one for one in downloads or [] if isinstance(one, dict)]
    return {str(one.get("name")): one[_CONTENT] for one in several if one.get(_CONTENT) is not None}


def _files(match: Match, document: str, original: Mapping[str, Json], copy: Mapping[str, Json]) -> None:
    """Compare stored files by name and content."""
    for name, one in sorted(original.items()):
        two = copy.get(name)
        if not isinstance(one, dict):
            continue
        if not isinstance(two, dict):
            match.note(document, "file", name, How.MISSING)
        elif one.get("sha256") != two.get("sha256"):
            match.note(
                document, "file", name, How.DIFFERS, field="content", original=one.get("sha256"),
                copy=two.get("sha256"),
            )  # fmt: skip


def _snippets(match: Match, original: Side, copy: Side) -> None:
    nest = Nest("snippet", all_things.SNIPPET)
    olds, news = _documents(original, SNIPPETS), _documents(copy, SNIPPETS)
    if not olds and not original.has_read("snippets"):
        match.result.known[nest.thing.name, "all", NEVER_READ] += 1
        return
    left = dict(news)
    for path, old in olds.items():
        name = _name(nest, old)
        if Marks.of(old).is_gone(nest.key):
            match.note(path, nest.thing.name, name, How.MISSING, why=GONE)
            continue
        key = key_of(nest.thing, _object(old, nest.key), {})
        same = [one for one, new in left.items() if key_of(nest.thing, _object(new, nest.key), {}) == key]
        # Of several with one title, that with the same files.
        same.sort(key=lambda one: left[one].get("files") != old.get("files"))
        if not same:
            match.note(path, nest.thing.name, name, How.MISSING)
            continue
        new = left.pop(same[0])
        match.fields(path, nest.thing, name, _object(old, nest.key), _object(new, nest.key))
        files, others = old.get("files") or {}, new.get("files") or {}
        _files(match, path, files, others)
        for one in sorted(others.keys() - files.keys()):
            match.note(path, "file", one, How.MORE)
        compare_texts(
            match, path, all_things.SNIPPET_COMMENT, old.get("comments"), new.get("comments"),
            (original, copy), f"{path}/comment",
        )  # fmt: skip
        before, after = original.mirrors.get(_mirror(path)), copy.mirrors.get(_mirror(same[0]))
        if before is not None and (after is None or before.refs.refs != after.refs.refs):
            match.note(path, "history of the snippet", name, How.MISSING, why=_NEW_COMMIT)
    for path in left:
        match.note(path, nest.thing.name, _name(nest, left[path]), How.MORE)


def _mirror(path: str) -> str:
    return path.removesuffix(".json")


def _documents(side: Side, folder: str) -> dict[str, JsonObject]:
    """The documents in a folder, but those that were erased."""
    found = {path: object_at(side, path) for path in side.paths() if path.startswith(f"{folder}/")}
    return {path: one for path, one in found.items() if not is_erased(one)}


def _object(document: JsonObject, key: str) -> JsonObject:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _name(nest: Nest, document: JsonObject) -> str:
    return name_of(nest.thing, _object(document, nest.key), {})
