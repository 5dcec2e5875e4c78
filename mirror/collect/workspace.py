"""What belongs to a workspace and to no repository: its settings, its projects, its snippets."""

from __future__ import annotations

import hashlib

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client import Client
from mirror.bitbucket.failures import ApiError, Denied
from mirror.bitbucket.lists import all_of
from mirror.collect import settings
from mirror.collect.catalogue import Row, rows
from mirror.collect.outcomes import child_of
from mirror.collect.ports import Work
from mirror.collect.settings import Names, Round, ask, mark_gone
from mirror.model import JsonObject, Part, PartState


async def collect_workspace(work: Work, *, with_settings: bool, with_snippets: bool) -> dict[str, Part]:
    """Bring a workspace's documents up to date where that is due; returns its parts.

    Raises only where the credential as a whole is refused.
    """
    wanted = {"settings": with_settings, "snippets": with_snippets}
    worth = settings.worth_now(work)
    if worth is not None:
        several = [one for one in rows(level="workspace") if wanted.get(one.part)]
        await Round(work, worth, several, _SPECIAL).run()
    found = settings.parts(work)
    missing = Part(PartState.PARTIAL, {}, "not asked for yet")
    skipped = Part(PartState.SKIPPED)
    result = {name: found.get(name, missing) if on else skipped for name, on in wanted.items()}
    work.passing |= {name for name, part in result.items() if part.state is PartState.PARTIAL}
    return result


# -- projects


async def _projects(work: Work, client: Client, row: Row) -> None:
    """Each project with its settings. What is refused for one for want of a scope is not asked of the
    others."""
    refused: dict[str, ApiError] = {}
    seen = set()
    for project in await all_of(client, row.endpoint, None, **work.names):
        key = fields.project_key(project)
        seen.add(key.lower())
        path = f"projects/{key.lower()}.json"
        held = work.draft.get(path)
        old: JsonObject = held if isinstance(held, dict) else {}
        document: JsonObject = {"project": fields.merged(old.get("project"), fields.stable(project))}
        marks: JsonObject = {}
        for one in rows(level="project"):
            name = one.name.removeprefix("project_")
            document[name] = old.get(name)
            try:
                if one.name in refused:
                    raise refused[one.name]
                document[name] = await ask(client, one.endpoint, {**work.names, "project": key})
            except ApiError as error:
                marks[name] = _mark(work, one, error)
                if isinstance(error, Denied):
                    refused[one.name] = error
        work.put(path, {**document, "_parts": marks})
        work.tick()
    mark_gone(work, "projects", seen, "project")
    for one in rows(level="project"):
        fault = refused.get(one.name)
        if fault is None or one.agreed_as in work.agreed or settings.is_out_of_reach(work, one, fault):
            continue
        raise fault


def _mark(work: Work, row: Row, error: ApiError) -> JsonObject:
    if settings.is_out_of_reach(work, row, error):
        return {"state": str(PartState.UNAVAILABLE)}
    return child_of(error)


# -- snippets


def snippet_path(identifier: str) -> str:
    """Where the document of a snippet stands. Ids differ by case, names in the store may not."""
    name = identifier.lower()
    if name != identifier:
        name += "~" + hashlib.sha256(identifier.encode()).hexdigest()[:8]
    return f"snippets/{name}.json"


async def _snippets(work: Work, client: Client, row: Row) -> None:
    """Each with its files (where it changed), comments and commits."""
    seen = set()
    fault: ApiError | None = None
    for listed in await all_of(client, row.endpoint, None, **work.names):
        identifier = fields.snippet_id(listed)
        path = snippet_path(identifier)
        seen.add(path.rpartition("/")[2].removesuffix(".json"))
        held = work.draft.get(path)
        document: JsonObject = {"comments": None, "commits": None, "files": None}
        document = (
            {**document, **held, "_parts": {}} if isinstance(held, dict) else {**document, "_parts": {}}
        )
        names = {**work.names, "snippet": identifier}
        for name, bring in (("files", _files), ("comments", _comments), ("commits", _commits)):
            try:
                await bring(work, client, document, listed, names)
            except ApiError as error:
                fault = error
                document["_parts"][name] = child_of(error)
        document.setdefault("snippet", fields.stable(listed))
        work.put(path, document)
        work.tick()
    mark_gone(work, "snippets", seen, "snippet")
    if fault is not None:
        raise fault


async def _files(work: Work, client: Client, document: JsonObject, listed: JsonObject, names: Names) -> None:
    before = document.get("snippet")
    files = document.get("files")
    unchanged = before is not None and fields.updated_on(before) == fields.updated_on(listed)
    if unchanged and files is not None and all(work.draft.has_file(one["sha256"]) for one in files.values()):
        return
    answer = await client.get(endpoints.SNIPPET, None, **names)
    snippet = fields.stable(answer.object("snippet"))
    kept: JsonObject = {}
    for name, node in fields.snippet_files(snippet).items():
        async with client.download(endpoints.SNIPPET_FILE, node=node, name=name, **names) as chunks:
            kept[name] = await work.draft.put_file(chunks, name)
    document["snippet"], document["files"] = snippet, kept


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


_SPECIAL: dict[str, settings.Collect] = {
    "projects": _projects,
    "snippets": _snippets,
    "snippet_files": settings.with_another,
    "snippet_comments": settings.with_another,
    "snippet_commits": settings.with_another,
}
