"""Pull requests, and what git lacks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.failures import ApiError
from mirror.collect.context import Context
from mirror.collect.kinds import heads
from mirror.collect.kinds.files import NoRoom, keep_file
from mirror.collect.kinds.kind import Change, Child, Kind
from mirror.collect.marks import Marks
from mirror.collect.times import seconds_of
from mirror.model import Json, JsonObject


async def _patch(context: Context, priority: Priority, number: int, document: JsonObject) -> Json:
    """The patch, where git lacks the commits: between the two hashes, or as the pull request has it.

    The first takes one request; the second is redirected, and takes two.
    """
    thing = document.get("pull_request")
    source, destination = fields.pull_request_head(thing), fields.destination(thing)
    client, name = context.client_for(priority), f"{number}.patch"
    if source and destination:
        try:
            between = {**context.names, "source": source, "destination": destination}
            return await keep_file(context.draft, client, endpoints.PATCH, name, between, text=True)
        except NoRoom:
            raise
        except ApiError:
            pass
    places: Mapping[str, str | int] = {**context.names, "id": number}
    return await keep_file(context.draft, client, endpoints.PULL_REQUEST_PATCH, name, places, text=True)


def merged_activity(held: Json, entries: Sequence[JsonObject]) -> list[Json]:
    """Entries of activity with those that are held, each once, the newest first."""
    found = {fields.activity(one).key: fields.activity(one) for one in held or []}
    for entry in entries:
        new = fields.activity(entry)
        found.setdefault(new.key, new)
    ordered = sorted(found.values(), key=lambda one: (one.when, one.key), reverse=True)
    return [one.kept for one in ordered]


def lacking_in_git(context: Context, number: int) -> tuple[str, ...]:
    """The children that the document of a pull request lacks where git does not have its commits."""
    document = context.draft.get(PULL_REQUESTS.path(number))
    if not isinstance(document, dict):
        return ()
    head = fields.pull_request_head(document.get("pull_request"))
    listed = document.get("commits")
    # Where the fork is gone the list gives no head: any list is all that there is.
    has_commits = (
        isinstance(listed, list) and bool(listed) and (head is None or fields.starts_with(listed[0], head))
    )
    if not has_commits and not Marks.of(document).is_gone("commits"):
        return "commits", "patch"
    return ("patch",) if heads.is_unjudged(document) else ()


def _on_kept(context: Context, change: Change) -> None:
    numbers = context.state.pull_requests.numbers
    if change.moved:
        numbers.moved.add(change.number)
    heads.note_patch(context.state, change.number, change.old)
    if change.sweep and heads.is_unjudged(change.old):
        numbers.judged.discard(change.number)


def _on_fetched(context: Context, number: int, document: JsonObject, read: Sequence[str]) -> None:
    if "commits" in read:
        context.state.pull_requests.numbers.judged.add(number)
        heads.note_commits(context.state, number, document)
    if "patch" in read:
        heads.note_patch(context.state, number, document)


def _stale_children(previous: Json, thing: Json) -> tuple[str, ...]:
    """After a new head, that its commits or patch were absent says nothing any more."""
    return () if fields.has_same_head(previous, thing) else ("commits", "patch")


def _also_due(context: Context, document: JsonObject) -> Iterable[str]:
    """The activity of one that was not listed before, where the list for all is read past its beginning."""
    if document["activity"] is not None:
        return ()
    read_to = context.state.pull_requests.activity_to
    created = fields.created_on(document.get("pull_request")) or ""
    is_past = read_to is not None and seconds_of(created) < seconds_of(read_to)
    return ("activity",) if is_past else ()


def _is_under_way(context: Context) -> bool:
    activity = context.state.pull_requests.activity
    return activity is not None and activity.begun is not None


PULL_REQUESTS = Kind(
    part="pull_requests",
    key="pull_request",
    folder="pull-requests",
    noun="pull request",
    listing=endpoints.PULL_REQUESTS,
    children=(
        Child("comments", endpoints.PULL_REQUEST_COMMENTS, fields.comment_count, fields.is_not_removed),
        Child("tasks", endpoints.PULL_REQUEST_TASKS, fields.task_count),
        Child("activity", endpoints.PULL_REQUEST_ACTIVITY, is_on_demand=True, merge=merged_activity),
        Child("statuses", endpoints.PULL_REQUEST_STATUSES, is_idle=True),
        Child("commits", endpoints.PULL_REQUEST_COMMITS, may_be_gone=True, is_on_demand=True),
        Child(
            "patch", endpoints.PULL_REQUEST_PATCH, may_be_gone=True, is_on_demand=True, is_optional=True,
            ask=_patch,
        ),
    ),
    is_open=fields.is_open,
    single=endpoints.PULL_REQUEST,
    is_thin=lambda data: not fields.has_participants(data),
    on_listed=heads.note_head,
    on_kept=_on_kept,
    on_fetched=_on_fetched,
    on_swept=heads.note_swept,
    stale_children=_stale_children,
    also_due=_also_due,
    is_under_way=_is_under_way,
)  # fmt: skip
