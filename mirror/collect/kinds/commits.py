"""What is said about commits: comments, approvals, statuses, and the reports of code insights.

No list has any of them for a whole repository: each commit takes a request for each. So only heads are asked
about, of branches and of pull requests, unless every commit is wanted, and only with priority IDLE. The
statuses of a pull request's head come with the pull request; those of commits that are no heads are not
asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import COMMIT, Endpoint
from mirror.bitbucket.failures import BadAnswer, EntriesLost
from mirror.bitbucket.lists import all_of
from mirror.collect.context import Context
from mirror.collect.marks import Marks
from mirror.collect.outcomes import not_found_means_gone, part_with
from mirror.collect.state import State
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, Part, PartState

PART = "commit_comments"
FOLDER = "commit-comments"
# A head that does not move may still be commented on.
AGAIN_AFTER = timedelta(days=7)

Names = Mapping[str, str | int]


def document_path(commit: str) -> str:
    """Where the document of a commit stands."""
    return f"{FOLDER}/{commit[:2]}/{commit}.json"


def note_heads(
    context: Context, heads: Iterable[str], once: Iterable[str], reviewed: Collection[str] = ()
) -> None:
    """Remember which commits are to be asked about: `heads` every `AGAIN_AFTER`, `once` one time only. The
    statuses of `reviewed` heads come with their pull requests."""
    state = context.state.commit_comments
    state.upgrade()
    asked = state.asked or {}
    current = sorted(set(heads))
    due = [commit for commit in current if context.is_due(asked.get(commit), AGAIN_AFTER)]
    state.asked = {commit: asked[commit] for commit in current if commit in asked}
    known = set(current)
    queue = [one for one in state.queue or () if one not in known]
    queue += [one for one in sorted(set(once) - known - set(queue)) if one not in asked]
    # The value says whether the head is only a branch's: then the commit must exist, and its statuses are
    # asked for here.
    state.due, state.queue = {one: one not in reviewed for one in due}, dict.fromkeys(queue)


def note_more_heads(state: State, heads: Iterable[str], once: Iterable[str]) -> None:
    """Remember, likewise, heads of pull requests that were pinned since."""
    commits = state.commit_comments
    commits.upgrade()
    asked, due = commits.asked or {}, dict(commits.due or {})
    due.update(dict.fromkeys((commit for commit in heads if commit not in asked), False))
    commits.due = due
    more = {commit: None for commit in once if commit not in asked and commit not in due}
    commits.queue = {**(commits.queue or {}), **more}


def walked_tips(state: State) -> frozenset[str]:
    """The tips whose commits are all noted, where every commit is wanted."""
    return frozenset(state.commit_comments.walked or ())


def note_walked(state: State, tips: Iterable[str]) -> None:
    """Note that every commit that `tips` reach is noted."""
    state.commit_comments.walked = sorted(tips)


def requests_due(state: State) -> int:
    """About how many requests the commits take that are to be asked about."""
    return len(CHILDREN) * len(state.commit_comments.pending())


async def fetch(context: Context) -> None:
    """Ask about the commits that are due, as far as idle requests go."""
    state = context.state.commit_comments
    pending = state.pending()
    state.upgrade()
    await context.ask_in_batches(pending, lambda commit: _fetch_one(context, commit))


async def _fetch_one(context: Context, commit: str) -> None:
    path, state = document_path(commit), context.state.commit_comments
    due, queue = state.due or {}, state.queue or {}
    held = context.draft.get(path)
    old: JsonObject = held if isinstance(held, dict) else {}
    document: JsonObject = {"commit": commit, **{name: old.get(name) for name in CHILDREN}}
    marks = Marks()
    is_whole = await _read_children(
        context, commit, document, Marks.of(old), marks, is_of_branch=bool(due.get(commit))
    )
    try:
        if is_whole or held is not None or any(document[name] is not None for name in CHILDREN):
            context.put(path, marks.on(document))
    except BadAnswer as error:
        is_whole = False
        context.failures.texts[PART].append(error.message)
    if not is_whole:
        return
    if commit in due:
        del due[commit]
        if state.asked is None:
            state.asked = {}
        state.asked[commit] = context.now
    else:
        queue.pop(commit, None)


async def _read_children(
    context: Context, commit: str, document: JsonObject, before: Marks, marks: Marks, *, is_of_branch: bool
) -> bool:
    """Read into `document` what is said about a commit; returns whether that is all. `before` are the marks
    of the last turn: where it left any, only what it lacked is read."""
    is_whole = True
    for name, child in CHILDREN.items():
        if name == "statuses" and not is_of_branch:
            continue
        if before and name not in before and document[name] is not None:
            continue
        if not context.failures.may_ask(child.endpoint):
            is_whole = False
            marks.put_state(name, PartState.PARTIAL)
            continue
        try:
            client = context.client_for(Priority.IDLE)
            document[name] = await child.ask(client, {**context.names, "commit": commit})
            context.note_answer(child.endpoint)
        except MirrorError as error:
            # A branch's head exists, as git has just said; a pull request's may be in a fork.
            may_be_gone = name == "participants" and not is_of_branch
            if may_be_gone and await not_found_means_gone(context, COMMIT, error):
                for one in CHILDREN:
                    marks.put_state(one, PartState.GONE)
                break
            is_whole = False
            if isinstance(error, EntriesLost):
                document[name] = fields.with_held(document[name], error.values)
            marks.put_failed(name, error)
            context.failures.record(PART, f"commit {commit[:12]}", error, child.endpoint)
    return is_whole


async def _participants(client: Client, names: Names) -> Json:
    """Who has approved a commit; the commit itself says so."""
    answer = await client.get(COMMIT, None, **names)
    return fields.participants(answer.object("commit"))


async def _comments(client: Client, names: Names) -> Json:
    return fields.ordered(await all_of(client, endpoints.COMMIT_COMMENTS, None, **names))


async def _statuses(client: Client, names: Names) -> Json:
    return fields.ordered(await all_of(client, endpoints.COMMIT_STATUSES, None, **names))


async def _reports(client: Client, names: Names) -> Json:
    found = await all_of(client, endpoints.COMMIT_REPORTS, None, **names)
    kept: list[JsonObject] = []
    for report in fields.ordered(found):
        uuid = fields.uuid_of(report, "report")
        annotations = await all_of(client, endpoints.REPORT_ANNOTATIONS, None, report=uuid, **names)
        kept.append({"report": report, "annotations": fields.ordered(annotations)})
    return kept


@dataclass(frozen=True)
class Child:
    """One of the things said about a commit; it takes a request of its own."""

    endpoint: Endpoint
    ask: Callable[[Client, Names], Awaitable[Json]]


# In the order of asking: whether the commit exists comes first.
CHILDREN = {
    "participants": Child(COMMIT, _participants),
    "comments": Child(endpoints.COMMIT_COMMENTS, _comments),
    "reports": Child(endpoints.COMMIT_REPORTS, _reports),
    "statuses": Child(endpoints.COMMIT_STATUSES, _statuses),
}


def part(context: Context) -> Part:
    """What a snapshot says of the part."""
    waiting = len(context.state.commit_comments.pending())
    due = {"comments, approvals, statuses and code insights": waiting} if waiting else {}
    return part_with(context, PART, {}, due, noun="commits")
