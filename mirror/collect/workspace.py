"""What belongs to a workspace and to no repository: its settings, its projects, its snippets."""

from __future__ import annotations

from mirror.bitbucket import fields
from mirror.bitbucket.client import Client
from mirror.bitbucket.failures import ApiError, Denied, Gone, NotFound
from mirror.bitbucket.lists import all_of
from mirror.collect import settings, snippets
from mirror.collect.catalogue import Row, rows
from mirror.collect.outcomes import child_of, not_all
from mirror.collect.ports import Work
from mirror.collect.settings import Round, ask, mark_gone
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
    for name, part in result.items():
        settings.note_passing(work, name, part)
    return result


# -- projects


async def _projects(work: Work, client: Client, row: Row) -> None:
    """Each project with its settings. What is refused for one for want of a scope is not asked of the
    others."""
    refused: dict[str, ApiError] = {}
    faults: list[ApiError] = []
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
                if _is_missed(work, one, error):
                    faults.append(error)
                if isinstance(error, Denied):
                    refused[one.name] = error
        work.put(path, {**document, "_parts": marks})
        work.tick()
    mark_gone(work, "projects", seen, "project")
    if faults:
        raise not_all(faults)


def _is_missed(work: Work, row: Row, error: ApiError) -> bool:
    """Whether what a project lacks is a gap: it is none where that is agreed, out of reach, retired, or was
    never set up, which is a 404 as it is for repositories."""
    if row.agreed_as in work.agreed or isinstance(error, Gone | NotFound):
        return False
    return not settings.is_out_of_reach(work, row, error)


def _mark(work: Work, row: Row, error: ApiError) -> JsonObject:
    if settings.is_out_of_reach(work, row, error):
        return {"state": str(PartState.UNAVAILABLE)}
    return child_of(error)


_SPECIAL: dict[str, settings.Collect] = {
    "projects": _projects,
    **snippets.SPECIAL,
}
