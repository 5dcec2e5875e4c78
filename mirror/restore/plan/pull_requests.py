"""Open pull requests are made anew, with their discussion. What has ended, and other history, is a loss.

The title stays. The description begins with a line that says which pull request it was, whose, of which day,
and who approved it: Bitbucket gives the new one another number, the day of the restore, and whoever restores
as its author. The backup, and the archive that is made of it, hold everything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.failures import plain
from mirror.bitbucket.readable.parts import (
    get,
    lacking,
    objects,
    participants,
    people_in,
    person,
    string,
    text_of,
)
from mirror.model import Json, JsonObject
from mirror.restore.plan.discussion import Discussion, Where
from mirror.restore.plan.heads import Branches, Ends, NoEnds
from mirror.restore.plan.repository import has_lfs
from mirror.restore.plan.source import Options, Source, Target, was_gone
from mirror.restore.plan.steps import (
    Call,
    Excuse,
    Find,
    Loss,
    Made,
    Push,
    Retry,
    SendObjects,
    Stage,
    Step,
    Why,
)
from mirror.restore.plan.texts import DESCRIPTION_MAX, Written, code, counted, day, listed, named, written

KIND = "pull requests"
_COMMENTS, _STATUSES = "pull request comments", "pull request statuses"
_ACTIVITY = "pull request activity and approvals"
_NUMBERED = re.compile(r"/(\d{1,18})\.json$")
_NO_REVIEWERS = "Bitbucket refuses these reviewers"
# The destination is compared by its name, and the reviewers by a step of their own.
_NOT_COMPARED = frozenset({"destination", "reviewers"})
_NOTHING = "its branches have the same content at the target"


def steps_of_pull_requests(source: Source, target: Target, options: Options) -> Iterator[Step | Loss]:
    """The steps that make the open pull requests of a repository anew. Raises StoreDamaged."""
    branches = Branches(source, options)
    ended: Counter[str] = Counter()
    statuses = events = 0
    for number, path in numbered(source, "pull-requests"):
        document = source.object(path)
        pull = document.get("pull_request")
        if was_gone(document, "pull_request"):
            ended["vanished"] += 1
        elif fields.is_open(pull):
            statuses += len(objects(document, "statuses"))
            events += len(objects(document, "activity"))
            yield from _PullRequest(source, target, options, number, document).steps(branches)
        else:
            ended[string(pull, "state").lower()] += 1
    if events:
        key, label = source.key("pull-requests", "activity"), f"{counted(events, 'event')} in the history"
        yield Loss(key, _ACTIVITY, f"{label} of open pull requests of {source.title}", Why.NEVER)
    if statuses:
        key, label = source.key("pull-requests", "statuses"), counted(statuses, "build status")
        yield Loss(key, _STATUSES, f"{label} of open pull requests of {source.title}", Why.ARCHIVED)
    for state, count in sorted(ended.items()):
        label = f"{counted(count, f'{state} pull request')} of {source.title}"
        yield Loss(source.key("pull-requests", state), KIND, label, Why.ARCHIVED)


def numbered(source: Source, folder: str) -> list[tuple[int, str]]:
    """The numbers and paths of the documents in a folder, the oldest first."""
    found = ((_NUMBERED.search(path), path) for path in source.paths(folder))
    return sorted((int(match[1]), path) for match, path in found if match is not None)


def steps_of_branch(source: Source, ends: Ends, key: str, label: str, stage: Stage) -> Iterator[Step]:
    """What makes the source branch of a pull request, where the repository does not have it. `key` and
    `label` are those of the pull request."""
    if ends.pushed is None:
        return
    label = f"the branch {plain(ends.source)} of {label}"
    repository, objects_key = source.key("repository"), f"{key}/objects"
    if has_lfs(source):
        send = SendObjects((ends.pushed,))
        yield Step(objects_key, KIND, f"LFS objects of {label}", send, Stage.LFS_OBJECTS, (repository,))
    push = Push("code", {ends.ref: ends.pushed})
    yield Step(f"{key}/branch", KIND, label, push, stage, (repository, objects_key))


class _PullRequest:
    """One open pull request."""

    def __init__(
        self, source: Source, target: Target, options: Options, number: int, document: JsonObject
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._number = number
        self._document = document
        self._pull: Json = document.get("pull_request")
        self._key = source.key("pull-request", number)
        self._label = f"pull request {number} of {source.title}"

    def steps(self, branches: Branches) -> Iterator[Step | Loss]:
        """What makes it anew; or a loss alone, where there is nothing to make it from."""
        ends = branches.ends(self._number, self._pull)
        if isinstance(ends, NoEnds):
            yield Loss(self._key, KIND, self._label, ends.why, ends.detail)
            return
        text = self._text(ends)
        reviewers = [one for one in self._reviewers() if not isinstance(one, Loss)]
        body = self._body(ends, text, [uuid for _, uuid in reviewers])
        yield from steps_of_branch(self._source, ends, self._key, self._label, Stage.PULL_REQUESTS)
        yield self._opening(ends, body, text)
        yield from self._losses()
        yield from Discussion.of(self._where(), self._document).steps()
        if reviewers:
            yield self._asking(body, text, reviewers)

    def _text(self, ends: Ends) -> Written:
        people = people_in(self._document)
        original = text_of(self._pull, people, "description") or text_of(self._pull, people, "summary")
        return written(self._line(ends), original, DESCRIPTION_MAX)

    def _body(self, ends: Ends, text: Written, reviewers: list[str]) -> JsonObject:
        """Everything that a change may set: Bitbucket takes away reviewers, and more, that a change omits."""
        return {
            "title": string(self._pull, "title") or self._label,
            "description": text.text,
            "destination": {"branch": {"name": ends.destination}},
            "reviewers": [{"uuid": uuid} for uuid in reviewers],
            "close_source_branch": get(self._pull, "close_source_branch") is True,
            "draft": get(self._pull, "draft") is True,
        }

    def _opening(self, ends: Ends, body: JsonObject, text: Written) -> Step:
        """Opens it, without reviewers: they are asked once the discussion is there, and get no mail about
        each comment."""
        opened = {name: value for name, value in body.items() if name != "reviewers"}
        opened["source"] = {"branch": {"name": ends.source}}
        after = [self._source.key("repository"), self._source.key("branches")]
        after += [f"{self._key}/branch"] if ends.pushed is not None else []
        return Step(
            self._key, KIND, f"{self._label}: {plain(string(self._pull, 'title'))}",
            Call("POST", endpoints.NEW_PULL_REQUEST, self._target.parts, opened), Stage.PULL_REQUESTS,
            tuple(after), self._find(ends),
            change=Call("PUT", endpoints.CHANGED_PULL_REQUEST, self._parts, body),
            wanted={name: value for name, value in body.items() if name not in _NOT_COMPARED}
            | {"destination.branch.name": ends.destination},
            retries=(*text.retries("description"), Retry(400, "reviewers", _NO_REVIEWERS)),
            excuses=(Excuse(400, "no changes", Why.ARCHIVED, _NOTHING),),
        )  # fmt: skip

    def _asking(self, body: JsonObject, text: Written, reviewers: list[tuple[str, str]]) -> Step:
        """Asks the reviewers. Those of one that is there already are nobody's fault: whoever restores cannot
        review what they open."""
        named_ = tuple((plain(name), {"uuid": uuid}) for name, uuid in reviewers)
        return Step(
            f"{self._key}/reviewers", KIND, f"the reviewers of {self._label}",
            Call("PUT", endpoints.CHANGED_PULL_REQUEST, self._parts, body), Stage.COMMENTS, (self._key,),
            Find(endpoints.PULL_REQUEST, self._parts), wanted={"reviewers": body["reviewers"]},
            retries=(
                *text.retries("description"), Retry(400, "reviewers", _NO_REVIEWERS, named=named_)
            ),
            is_passing=True,
        )  # fmt: skip

    def _find(self, ends: Ends) -> Find:
        """By the line in its description, whatever has become of it; then by its branches: a second request
        between the same ones would change the first."""
        branches: dict[str, Json] = {
            "state": "OPEN",
            "source.branch.name": ends.source,
            "source.repository.full_name": f"{self._target.workspace}/{self._target.repository}",
            "destination.branch.name": ends.destination,
        }
        several, parts = endpoints.PULL_REQUESTS, self._target.parts
        otherwise = Find(several, parts, branches)
        return Find(several, parts, marker=("description", self._marker), otherwise=otherwise)

    @property
    def _marker(self) -> str:
        return f"*Pull request {self._number} of {named(self._source.snapshot.full_name)}, "

    @property
    def _parts(self) -> dict[str, str | int | Made]:
        return {**self._target.parts, "id": Made(self._key, "id")}

    def _line(self, ends: Ends) -> str:
        """What the description begins with."""
        author, when = named(person(self._pull, "author")), day(string(self._pull, "created_on"))
        line = f"{self._marker}by {author}, {when}"
        old = string(self._pull, "source", "branch", "name")
        fork = string(self._pull, "source", "repository", "full_name")
        if fork and fork != self._source.snapshot.full_name:
            line += f", from {code(old)} of {named(fork)}"
        elif old != ends.source:
            line += f", from {code(old)}"
        people = participants(get(self._pull, "participants"))
        for state, words in (("approved", "approved by"), ("changes_requested", "changes requested by")):
            names = [one.name for one in people if one.state == state]
            line += f"; {words} {listed(names)}" if names else ""
        return f"{line}*"

    def _reviewers(self) -> Iterator[tuple[str, str] | Loss]:
        """The names of the reviewers, with their uuids at the target, and those who are not there."""
        if not isinstance(get(self._pull, "reviewers"), list):
            yield Loss(f"{self._key}/reviewers", KIND, f"the reviewers of {self._label}", Why.LACKING)
        for index, one in enumerate(objects(self._pull, "reviewers")):
            uuid = self._options.person(string(one, "uuid").lower())
            members = self._target.members
            if uuid and (members is None or uuid in members):
                yield person(one), uuid
            else:
                label = f"{plain(person(one))}, reviewer of {self._label}"
                yield Loss(f"{self._key}/reviewer/{uuid or index}", KIND, label, Why.PERSON)

    def _losses(self) -> Iterator[Loss]:
        """The people who are not there, and the discussion that the backup lacks or has as it was before."""
        yield from (one for one in self._reviewers() if isinstance(one, Loss))
        for child, why in lacking(self._document, "comments", "tasks").items():
            if child in ("comments", "tasks"):
                yield Loss(f"{self._key}/{child}", _COMMENTS, f"{child} of {self._label}", Why.LACKING, why)

    def _where(self) -> Where:
        return Where(
            _COMMENTS, self._label, self._key, self._parts, endpoints.PULL_REQUEST_COMMENTS,
            endpoints.PULL_REQUEST_COMMENT, (self._key,),
        )  # fmt: skip
