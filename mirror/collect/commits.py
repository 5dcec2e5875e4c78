"""What is said about commits: comments, and the reports of code insights.

There is no list of either for a whole repository: each commit takes two requests. So only heads are
asked about, of branches and of pull requests, unless every commit is wanted, and only with requests
that nobody else wants.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.budget import Worth
from mirror.bitbucket.client import Client
from mirror.bitbucket.failures import BadAnswer, Gone, NotFound
from mirror.bitbucket.lists import all_of
from mirror.collect.outcomes import child_of, part_with
from mirror.collect.ports import Work, together
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, Part, PartState, time_text

PART = "commit_comments"
FOLDER = "commit-comments"
# A head that stays where it is may still be commented on.
AGAIN_AFTER = timedelta(days=7)
BATCH = 16


def document_path(commit: str) -> str:
    """Where the document of a commit stands."""
    return f"{FOLDER}/{commit[:2]}/{commit}.json"


def note_heads(work: Work, heads: Iterable[str], once: Iterable[str]) -> None:
    """Remember which commits are to be asked about: `heads` now and again, `once` one time only."""
    state = work.part_state(PART)
    asked: JsonObject = state.get("asked") or {}
    current = sorted(set(heads))
    due = [commit for commit in current if work.is_due(asked, commit, AGAIN_AFTER)]
    state["asked"] = {commit: asked[commit] for commit in current if commit in asked}
    known = set(current)
    queue = [one for one in state.get("queue") or () if one not in known]
    queue += [one for one in sorted(set(once) - known - set(queue)) if one not in asked]
    # Quick to take one from: there may be as many as there are commits.
    state["due"], state["queue"] = dict.fromkeys(due), dict.fromkeys(queue)


def note_more(work: Work, heads: Iterable[str], once: Iterable[str]) -> None:
    """Remember commits that turned up since, likewise."""
    state = work.part_state(PART)
    asked, due = state.get("asked") or {}, dict.fromkeys(state.get("due") or ())
    due.update(dict.fromkeys(commit for commit in heads if commit not in asked))
    state["due"] = due
    more = {commit: None for commit in once if commit not in asked and commit not in due}
    state["queue"] = {**dict.fromkeys(state.get("queue") or ()), **more}


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


async def fill(work: Work) -> None:
    """Ask about them, as far as idle requests go."""
    order = to_ask(work)
    state = work.part_state(PART)
    for name in ("due", "queue"):
        state[name] = dict.fromkeys(state.get(name) or ())  # 0.3 kept lists
    for start in range(0, len(order), BATCH):
        if work.stopped is not None:
            return
        await together(_ask_of(work, commit) for commit in order[start : start + BATCH])


async def _ask_of(work: Work, commit: str) -> None:
    path, state, client = document_path(commit), work.part_state(PART), work.asking(Worth.IDLE)
    held = work.draft.get(path)
    old: JsonObject = held if isinstance(held, dict) else {}
    before: JsonObject = old.get("_parts") or {}
    marks: JsonObject = {}
    document: JsonObject = {
        "commit": commit,
        "comments": old.get("comments"),
        "reports": old.get("reports"),
        "_parts": marks,
    }
    whole = True
    for name, endpoint in (("comments", endpoints.COMMIT_COMMENTS), ("reports", endpoints.COMMIT_REPORTS)):
        if before and name not in before and document[name] is not None:
            continue  # the last turn had this one, and not the other
        if not work.may_ask(endpoint):
            whole = False
            marks[name] = {"state": str(PartState.PARTIAL)}
            continue
        try:
            names = {**work.names, "commit": commit}
            if name == "comments":
                document[name] = fields.ordered(await all_of(client, endpoint, None, **names))
            else:
                document[name] = await _reports(client, names)
            work.answered(endpoint)
        except (NotFound, Gone):
            marks[name] = {"state": str(PartState.GONE)}
        except MirrorError as error:
            whole = False
            marks[name] = child_of(error)
            work.failed(PART, f"commit {commit[:12]}", error, endpoint)
    try:
        if whole or held is not None or document["comments"] is not None:
            work.put(path, document)
    except BadAnswer as error:
        whole = False
        work.faults[PART].append(error.message)
    if whole:
        if commit in state["due"]:
            del state["due"][commit]
            state.setdefault("asked", {})[commit] = time_text(work.clock.now())
        else:
            state["queue"].pop(commit, None)


async def _reports(client: Client, names: dict[str, str | int]) -> Json:
    found = await all_of(client, endpoints.COMMIT_REPORTS, None, **names)
    kept: list[JsonObject] = []
    for report in fields.ordered(found):
        uuid = fields.uuid_of(report, "report")
        annotations = await all_of(client, endpoints.REPORT_ANNOTATIONS, None, report=uuid, **names)
        kept.append({"report": report, "annotations": fields.ordered(annotations)})
    return kept


def part(work: Work) -> Part:
    """What a snapshot says of the part."""
    waiting = len(to_ask(work))
    due = {"comments and code insights": waiting} if waiting else {}
    return part_with(work, PART, {}, due, noun="commits")
