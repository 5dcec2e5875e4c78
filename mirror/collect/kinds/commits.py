"""What is said about commits: comments, approvals, statuses, and the reports of code insights.

There is no list of any of them for a whole repository: each commit takes a request for each. So only
heads are asked about, of branches and of pull requests, unless every commit is wanted, and only with
requests that nobody else wants. Statuses of a pull request's head come with the pull request, and those
of commits that are no heads are not asked for.
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
from mirror.collect.outcomes import child_of, is_gone, part_with
from mirror.collect.ports import Work, together
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, Part, PartState, time_text

PART = "commit_comments"
FOLDER = "commit-comments"
# A head that stays where it is may still be commented on.
AGAIN_AFTER = timedelta(days=7)
BATCH = 16

Names = Mapping[str, str | int]


def document_path(commit: str) -> str:
    """Where the document of a commit stands."""
    return f"{FOLDER}/{commit[:2]}/{commit}.json"


def note_heads(work: Work, heads: Iterable[str], once: Iterable[str], reviewed: Collection[str] = ()) -> None:
    """Remember which commits are to be asked about: `heads` now and again, `once` one time only. The
    statuses of `reviewed` come with their pull requests."""
    state = work.part_state(PART)
    asked: JsonObject = state.get("asked") or {}
    current = sorted(set(heads))
    due = [commit for commit in current if work.is_due(asked, commit, AGAIN_AFTER)]
    state["asked"] = {commit: asked[commit] for commit in current if commit in asked}
    known = set(current)
    queue = [one for one in state.get("queue") or () if one not in known]
    queue += [one for one in sorted(set(once) - known - set(queue)) if one not in asked]
    # Quick to take one from: there may be as many as there are commits. Of a head it says whether a branch
    # has it and no pull request: then it must be there, and its statuses are wanted, too.
    state["due"], state["queue"] = {one: one not in reviewed for one in due}, dict.fromkeys(queue)


def note_more(work: Work, heads: Iterable[str], once: Iterable[str]) -> None:
    """Remember heads of pull requests that turned up since, likewise."""
    state = work.part_state(PART)
    asked, due = state.get("asked") or {}, _by_commit(state.get("due"))
    due.update(dict.fromkeys((commit for commit in heads if commit not in asked), False))
    state["due"] = due
    more = {commit: None for commit in once if commit not in asked and commit not in due}
    state["queue"] = {**_by_commit(state.get("queue")), **more}


def _by_commit(saved: JsonObject | list[str] | None) -> JsonObject:
    return dict(saved) if isinstance(saved, dict) else dict.fromkeys(saved or ())  # 0.3 kept lists


def walked(work: Work) -> frozenset[str]:
    """From where on every commit has been noted, where every commit is wanted."""
    return frozenset(work.part_state(PART).get("walked") or ())


def note_walked(work: Work, tips: Iterable[str]) -> None:
    """Every commit that `tips` reach has been noted."""
    work.part_state(PART)["walked"] = sorted(tips)


def to_ask(work: Work) -> list[str]:
    """The commits that are to be asked about, heads first."""
    state = work.part_state(PART)
    return [*(state.get("due") or ()), *(state.get("queue") or ())]


def requests_due(work: Work) -> int:
    """About how many requests that takes."""
    return len(CHILDREN) * len(to_ask(work))


async def fill(work: Work) -> None:
    """Ask about them, as far as idle requests go."""
    order = to_ask(work)
    state = work.part_state(PART)
    for name in ("due", "queue"):
        state[name] = _by_commit(state.get(name))
    for start in range(0, len(order), BATCH):
        if work.stopped is not None:
            return
        await together(_ask_of(work, commit) for commit in order[start : start + BATCH])


async def _ask_of(work: Work, commit: str) -> None:
    path, state = document_path(commit), work.part_state(PART)
    is_head, is_of_branch = commit in state["due"], bool(state["due"].get(commit))
    held = work.draft.get(path)
    old: JsonObject = held if isinstance(held, dict) else {}
    before: JsonObject = old.get("_parts") or {}
    marks: JsonObject = {}
    document: JsonObject = {
        "commit": commit, **{name: old.get(name) for name in CHILDREN}, "_parts": marks
    }  # fmt: skip
    whole = True
    for name, child in CHILDREN.items():
        if name == "statuses" and not is_of_branch:
            continue
        if before and name not in before and document[name] is not None:
            continue  # the last turn had this one, and not the other
        if not work.may_ask(child.endpoint):
            whole = False
            marks[name] = {"state": str(PartState.PARTIAL)}
            continue
        try:
            document[name] = await child.ask(work.asking(Priority.IDLE), {**work.names, "commit": commit})
            work.answered(child.endpoint)
        except MirrorError as error:
            # A branch's head is there, as git has just said; that of a pull request may be in a fork.
            may_be_gone = name == "participants" and not is_of_branch
            if may_be_gone and await is_gone(work, COMMIT, error):
                marks.update({one: {"state": str(PartState.GONE)} for one in CHILDREN})
                break
            whole = False
            if isinstance(error, EntriesLost):
                document[name] = fields.with_held(document[name], error.values)
            marks[name] = child_of(error)
            work.failed(PART, f"commit {commit[:12]}", error, child.endpoint)
    try:
        if whole or held is not None or any(document[name] is not None for name in CHILDREN):
            work.put(path, document)
    except BadAnswer as error:
        whole = False
        work.faults[PART].append(error.message)
    if whole:
        if is_head:
            del state["due"][commit]
            state.setdefault("asked", {})[commit] = time_text(work.clock.now())
        else:
            state["queue"].pop(commit, None)


async def _participants(client: Client, names: Names) -> Json:
    """Who has approved a commit, as the commit itself tells."""
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
    """What is said about a commit that takes a request of its own."""

    endpoint: Endpoint
    ask: Callable[[Client, Names], Awaitable[Json]]


# In the order of asking: whether the commit is there comes first.
CHILDREN = {
    "participants": Child(COMMIT, _participants),
    "comments": Child(endpoints.COMMIT_COMMENTS, _comments),
    "reports": Child(endpoints.COMMIT_REPORTS, _reports),
    "statuses": Child(endpoints.COMMIT_STATUSES, _statuses),
}


def part(work: Work) -> Part:
    """What a snapshot says of the part."""
    waiting = len(to_ask(work))
    due = {"comments, approvals, statuses and code insights": waiting} if waiting else {}
    return part_with(work, PART, {}, due, noun="commits")
