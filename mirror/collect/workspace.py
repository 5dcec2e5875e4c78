"""What belongs to a workspace and to no repository: its settings, its projects, its snippets."""

from __future__ import annotations

from mirror.bitbucket import fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, Denied
from mirror.bitbucket.lists import all_told
from mirror.collect.catalogue import Row, rows
from mirror.collect.kinds import settings, snippets
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.settings import Round, ask, mark_gone
from mirror.collect.outcomes import child_of, is_gap, judged, named, not_all
from mirror.collect.ports import Work
from mirror.model import JsonObject, Part, PartState


async def collect_workspace(work: Work, *, with_settings: bool, with_snippets: bool) -> dict[str, Part]:
    """Bring a workspace's documents up to date where that is due; returns its parts.

    Raises only where the credential as a whole is refused.
    """
    wanted = {"settings": with_settings, "snippets": with_snippets}
    priority = settings.round_priority(work)
    if priority is not None or settings.lacking(work):
        several = [one for one in rows(level="workspace") if wanted.get(one.part)]
        only_lacking = priority is None
        await Round(work, priority or settings.RETRY, several, _SPECIAL, only_lacking=only_lacking).run()
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
    is_round = settings.round_priority(work) is not None  # else only what is lacking is asked for
    several, faults = named(*await all_told(client, row.endpoint, None, **work.names), fields.project_key)
    is_whole = not faults
    for key, project in several:
        path = f"projects/{key.lower()}.json"
        held = work.draft.get(path)
        old: JsonObject = held if isinstance(held, dict) else {}
        document: JsonObject = {"project": fields.merged(old.get("project"), fields.stable(project))}
        marks: JsonObject = {}
        for one in rows(level="project"):
            name = one.name.removeprefix("project_")
            document[name] = old.get(name)
            mark: JsonObject | None = (old.get("_parts") or {}).get(name)
            if not is_round and name in old and not is_gap(mark):
                marks |= {name: mark} if mark is not None else {}
                continue
            try:
                if one.name in refused:
                    raise refused[one.name]
                document[name] = await ask(client, one.endpoint, {**work.names, "project": key})
            except ApiError as error:
                part = await judged(work, one, error, is_held=document[name] is not None)
                marks[name] = child_of(error) if not part.is_settled else {"state": str(part.state)}
                if not part.is_settled and one.agreed_as not in work.agreed:
                    faults.append(error)
                if isinstance(error, Denied):
                    refused[one.name] = error
        work.put(path, {**document, "_parts": marks})
        work.tick()
    if is_whole:
        mark_gone(work, "projects", {key.lower() for key, _ in several}, "project")
    if faults:
        raise not_all(faults)


async def _system_key(work: Work, client: Client, row: Row) -> None:
    """The key that Bitbucket signs its own commits with: text, and no document."""
    names: settings.Names = {"workspace": work.names["workspace"]}
    work.put(row.document, await keep_file(work, client, row.endpoint, "system-gpg-key.asc", names))


_SPECIAL: dict[str, settings.Collect] = {
    "system_gpg_key": _system_key,
    "projects": _projects,
    **snippets.SPECIAL,
}
