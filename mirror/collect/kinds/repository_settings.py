"""The settings of a repository, and those kinds of them that are more than one document with one answer."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, Denied
from mirror.bitbucket.lists import all_with_lost, entries_lost, pages
from mirror.collect.catalogue import Row, rows
from mirror.collect.context import Context
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.settings import (
    PROFILE,
    RETRY,
    Collect,
    Names,
    Round,
    ask,
    lacking,
    mark_gone,
    read_with_other,
    round_priority,
)
from mirror.collect.marks import Marks, entry_gone, entry_unmarked
from mirror.collect.outcomes import by_name, entries_by_name, incomplete
from mirror.model import JsonObject

EXECUTIONS = "settings/schedule-executions.json"


async def collect_settings(context: Context, priority: Priority, wanted: Sequence[str]) -> None:
    """One round over the parts `wanted` of a repository's settings, where one has this priority now; or else
    what the last one lacks.

    Raises only where the credential as a whole is refused.
    """
    is_round = round_priority(context) is priority
    attempt = ("settings", 0, "round" if is_round else "what is lacking")
    tried = context.failures.tried
    if attempt not in tried and (is_round or (priority is RETRY and lacking(context))):
        tried.add(attempt)
        several = rows_of_round(context, wanted)
        await Round(context, priority, several, _READERS, only_lacking=not is_round).run()


def rows_of_round(context: Context, wanted: Sequence[str]) -> list[Row]:
    """The rows of one round over the parts `wanted`. A tracker that is off has no milestones either."""
    is_off = context.state.issues.absent is not None
    return [
        row
        for row in rows(level="repository")
        if row.upkeep == "slowly" and row.part in wanted and not (is_off and row.part == "issues")
    ]


def requests_due(context: Context, wanted: Sequence[str]) -> int:
    """About how many requests the settings take now."""
    is_round = round_priority(context) is not None
    return len(rows_of_round(context, wanted) if is_round else lacking(context))


async def _merge_strategies(context: Context, client: Client, row: Row) -> None:
    branch = fields.main_branch(context.draft.get(PROFILE))
    if branch is not None:  # an empty repository has none
        context.put(row.document, await ask(client, row.endpoint, {**context.names, "branch": branch}))


async def _environments(context: Context, client: Client, row: Row) -> None:
    """Each environment with its variables. Only the variables that cannot be read are skipped."""
    several, odd = await entries_by_name(
        client, row.endpoint, context.names, lambda one: fields.uuid_of(one, "environment")
    )
    faults: list[ApiError] = []
    for uuid, one in several:
        path = f"environments/{uuid.strip('{}')}.json"
        old, marks = context.document(path), Marks()
        document: JsonObject = {"environment": fields.stable(one), "variables": old.get("variables")}
        is_read = document["variables"] is not None and not Marks.of(old)
        if round_priority(context) is not None or not is_read:  # else only what is lacking is asked for
            try:
                if faults and isinstance(faults[-1], Denied):
                    raise faults[-1]  # as for the environment before
                names = {**context.names, "environment": uuid}
                document["variables"] = await ask(client, endpoints.ENVIRONMENT_VARIABLES, names)
            except ApiError as error:
                faults.append(error)
                marks.put_failed("variables", error)
        context.put(path, marks.on(document))
    if odd:
        raise incomplete([*odd, *faults])
    mark_gone(context, "environments", {uuid.strip("{}") for uuid, _ in several}, "environment")
    _raise_unless_accepted(context, "settings/environment-variables", faults)


def _raise_unless_accepted(context: Context, kind: str, faults: Sequence[ApiError]) -> None:
    if faults and kind not in context.run.accepted_missing:
        raise incomplete(faults)


async def _schedules(context: Context, client: Client, row: Row) -> None:
    """The schedules, and what each has started, by its uuid; that of a schedule that is gone stays."""
    found, lost = await all_with_lost(client, row.endpoint, None, **context.names)
    before = context.draft.get(row.document)
    context.put(row.document, fields.ordered(found) if lost is None else fields.with_held(before, found))
    executions = dict(context.document(EXECUTIONS))
    several, odd = by_name(found, lost, lambda one: fields.uuid_of(one, "schedule"))
    faults: list[ApiError] = []
    for uuid, _ in several:
        names = {**context.names, "schedule": uuid}
        try:
            executions[uuid] = await ask(client, endpoints.SCHEDULE_EXECUTIONS, names)
        except ApiError as error:
            faults.append(error)
    if executions:
        context.put(EXECUTIONS, executions)
    if odd:
        raise incomplete([*odd, *faults])
    _raise_unless_accepted(context, "settings/schedule-executions", faults)


async def _deployments(context: Context, client: Client, row: Row) -> None:
    """All of them: the list can be neither filtered nor sorted."""
    seen = set()
    faults: list[ApiError] = []
    async for page in pages(client, row.endpoint, None, **context.names):
        lost = entries_lost(row.endpoint, page.lost) if page.lost else None
        several, odd = by_name(page.values, lost, lambda one: fields.uuid_of(one, "deployment"))
        faults += odd
        for uuid, one in several:
            path = f"deployments/{uuid.strip('{}')}.json"
            deployment = fields.merged(context.document(path).get("deployment"), fields.stable(one))
            context.put(path, Marks().on({"deployment": deployment}))
            seen.add(uuid.strip("{}"))
    if faults:
        raise incomplete(faults)
    mark_gone(context, "deployments", seen, "deployment")


async def _downloads(context: Context, client: Client, row: Row) -> None:
    """The list, and each file that is new. A file that was removed upstream stays, marked."""
    held = context.draft.get(row.document)
    before = {fields.file_name(one): one for one in held or []}
    kept: list[JsonObject] = []
    several, faults = await entries_by_name(client, row.endpoint, context.names, fields.file_name)
    is_whole = not faults
    for name, one in several:
        old = entry_unmarked(before.pop(name, {}))
        content = old.get("_content")
        if not (fields.is_same_file(old, one) and _is_stored(context, one, content)):
            try:
                content = await _download(context, client, one)
            except ApiError as error:
                faults.append(error)
                if content:  # the old entry whole: the old bytes must not stand beside the new size
                    kept.append(old)
                    continue
        kept.append({**one, "_content": content})
    kept += [entry_gone(one, context.now) if is_whole else one for one in before.values()]
    context.put(row.document, sorted((fields.stable(one) for one in kept), key=fields.file_name))
    if faults:
        raise incomplete(faults)


async def _download(context: Context, client: Client, listed: JsonObject) -> JsonObject:
    name, size = fields.file_name(listed), fields.file_size(listed)
    places: Names = {**context.names, "name": name}
    return await keep_file(context.draft, client, endpoints.DOWNLOAD, name, places, size=size)


def _is_stored(context: Context, listed: JsonObject, content: JsonObject | None) -> bool:
    """Whether the content of a listed file is stored, and as large as the list says."""
    if not content or not context.draft.has_file(content["sha256"]):
        return False
    return fields.file_size(listed) in (None, content["size"])


_READERS: dict[str, Collect] = {
    "merge_strategies": _merge_strategies,
    "environments": _environments,
    "environment_variables": read_with_other,
    "deployments": _deployments,
    "schedules": _schedules,
    "schedule_executions": read_with_other,
    "downloads": _downloads,
    "downloaded_files": read_with_other,
}
