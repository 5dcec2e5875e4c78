"""What belongs to a workspace and to none of its repositories: its settings, projects and snippets."""

from __future__ import annotations

from mirror.bitbucket import fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, Denied
from mirror.collect.catalogue import Row, rows
from mirror.collect.context import Context
from mirror.collect.kinds import settings, snippets
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.settings import Round, ask, mark_gone, round_priority
from mirror.collect.marks import Marks
from mirror.collect.outcomes import entries_by_name, incomplete, part_after
from mirror.model import JsonObject, Part, PartState


async def collect_workspace(context: Context, *, with_settings: bool, with_snippets: bool) -> dict[str, Part]:
    """Bring a workspace's documents up to date where that is due; returns its parts.

    Raises only where the credential as a whole is refused.
    """
    wanted = {"settings": with_settings, "snippets": with_snippets}
    priority = round_priority(context)
    if priority is not None or settings.lacking(context):
        several = [one for one in rows(level="workspace") if wanted.get(one.part)]
        only_lacking = priority is None
        await Round(context, priority or settings.RETRY, several, _READERS, only_lacking=only_lacking).run()
    found = settings.parts(context)
    missing = Part(PartState.PARTIAL, {}, "not asked for yet")
    skipped = Part(PartState.SKIPPED)
    result = {name: found.get(name, missing) if on else skipped for name, on in wanted.items()}
    for name, part in result.items():
        settings.note_retryable(context, name, part)
    return result


async def _projects(context: Context, client: Client, row: Row) -> None:
    """Each project with its settings. A kind that is refused for one is not asked for of the others."""
    several, odd = await entries_by_name(client, row.endpoint, context.names, fields.project_key)
    refused: dict[str, ApiError] = {}
    faults = list(odd)
    for key, project in several:
        path = f"projects/{key.lower()}.json"
        old = context.document(path)
        document: JsonObject = {"project": fields.merged(old.get("project"), fields.stable(project))}
        marks = Marks()
        for one in rows(level="project"):
            faults += await _project_setting(context, client, one, key, old, document, marks, refused)
        context.put(path, marks.on(document))
        context.checkpoint_if_due()
    if not odd:
        mark_gone(context, "projects", {key.lower() for key, _ in several}, "project")
    if faults:
        raise incomplete(faults)


async def _project_setting(
    context: Context,
    client: Client,
    row: Row,
    key: str,
    old: JsonObject,
    document: JsonObject,
    marks: Marks,
    refused: dict[str, ApiError],
) -> list[ApiError]:
    """Read one kind of setting of the project `key` into its document, where that is due; returns why it is
    missing. `refused` are the kinds that were refused before, and why."""
    name, before = row.name.removeprefix("project_"), Marks.of(old)
    document[name] = old.get(name)
    if round_priority(context) is None and name in old and not before.is_gap(name):
        if name in before:
            marks.put(name, before.get(name))
        return []
    try:
        if row.name in refused:
            raise refused[row.name]
        document[name] = await ask(client, row.endpoint, {**context.names, "project": key})
    except ApiError as error:
        part = await part_after(context, row, error, is_held=document[name] is not None)
        if part.is_settled:
            marks.put_state(name, part.state)
        else:
            marks.put_failed(name, error)
        if isinstance(error, Denied):
            refused[row.name] = error
        if not part.is_settled and row.accepted_as not in context.run.accepted_missing:
            return [error]
    return []


async def _system_key(context: Context, client: Client, row: Row) -> None:
    """The key that Bitbucket signs its own commits with: a text, and no JSON."""
    names: settings.Names = {"workspace": context.names["workspace"]}
    name = "system-gpg-key.asc"
    context.put(row.document, await keep_file(context.draft, client, row.endpoint, name, names))


_READERS: dict[str, settings.Collect] = {
    "system_gpg_key": _system_key,
    "projects": _projects,
    **snippets.READERS,
}
