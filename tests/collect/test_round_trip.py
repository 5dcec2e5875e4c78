"""Each row of the catalogue against the wire: the documents contain every field of every response of the
simulator, with its value.

This test requests the responses without the client, and compares them leaf by leaf as they came, not as our
own code would store them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from mirror.bitbucket import endpoints as api
from mirror.bitbucket.endpoints import Endpoint
from mirror.collect.catalogue import CATALOGUE, Row
from mirror.collect.kinds.snippets import snippet_path
from mirror.store.reading.reader import RepositoryFolder
from tests.collect.test_catalogue import Held
from tests.collect.test_catalogue import held as held  # the fixture

Pairs = Iterator[tuple[Any, Any]]
WEBSITE = {"workspace": "acme", "repository": "website"}


class Wire:
    """Requests the simulator, page by page, and believes its responses."""

    def __init__(self, held: Held, http: httpx.Client) -> None:
        self._held = held
        [token] = held.world.tokens
        assert token.user is not None
        self._http = http
        self._http.auth = httpx.BasicAuth(token.user.email, token.secret)

    def bytes_of(self, endpoint: Endpoint, **names: Any) -> bytes:
        answer = self._http.get(self._held.simulator.api_url + endpoint.path(**names))
        answer.raise_for_status()
        return answer.content

    def one(self, endpoint: Endpoint, **names: Any) -> Any:
        return self._page(self._held.simulator.api_url + endpoint.path(**names), dict(endpoint.query))

    def every(self, endpoint: Endpoint, **names: Any) -> list[Any]:
        url = self._held.simulator.api_url + endpoint.path(**names)
        query: dict[str, Any] = {**endpoint.query, "pagelen": "10"}
        found: list[Any] = []
        for number in range(1, 100):
            page = self._page(url, {**query, "page": str(number)})
            found += page["values"]
            if not page["values"]:
                return found
        raise AssertionError(f"{endpoint.name} has no end")

    def _page(self, url: str, query: dict[str, Any]) -> Any:
        answer = self._http.get(url, params=query)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def wire(held: Held) -> Iterator[Wire]:
    with httpx.Client(follow_redirects=True) as http:
        yield Wire(held, http)


def lost(shown: Any, kept: Any, at: str = "") -> list[str]:
    """What is shown and not stored, by place. Links may lose what expires and the signed-in user; a short
    hash may have become a full one."""
    if isinstance(shown, dict):
        if not isinstance(kept, dict):
            return [at]
        return [one for name in shown for one in lost(shown[name], kept.get(name, ...), f"{at}.{name}")]
    if isinstance(shown, list):
        if not isinstance(kept, list) or len(shown) != len(kept):
            return [at]
        return [
            one for number, value in enumerate(shown) for one in lost(value, kept[number], f"{at}[{number}]")
        ]
    if isinstance(shown, str) and shown != kept:
        if not isinstance(kept, str):
            return [at]
        name = at.rpartition(".")[2]
        link, other = urlsplit(shown), urlsplit(kept)
        if ".avatar" in at and link.path == other.path and not other.query:
            return []
        if ".clone[" in at and link.path == other.path and link.hostname == other.hostname:
            return []
        grown = name == "hash" or (name == "href" and "/commit/" in shown)
        return [] if grown and kept.startswith(shown) else [at]
    if isinstance(shown, bool) or shown is None:
        return [] if kept is shown else [at]
    # Numbers keep their own text.
    return [] if str(shown) == str(kept) else [at]


def matched(shown: Sequence[Any], kept: Sequence[Any]) -> Pairs:
    """Each shown entry with the stored entry that loses the least of it."""
    assert len(shown) == len(kept)
    left = list(kept)
    for one in shown:
        best = min(left, key=lambda other: len(lost(one, other)))
        left.remove(best)
        yield one, best


def of_pulls(held: Held, wire: Wire, name: str, endpoint: Endpoint) -> Pairs:
    for number in held.world.workspaces["acme"].repositories["website"].pull_requests:
        kept = held.document(f"pull-requests/0/{number}.json")[name]
        if kept is not None:
            yield from matched(wire.every(endpoint, id=number, **WEBSITE), kept)


def _activity(held: Held, wire: Wire) -> Pairs:
    """An entry about a comment keeps its id and time: the comment itself is among the comments."""
    for entry in wire.every(api.PULL_REQUESTS_ACTIVITY, **WEBSITE):
        document = held.document(f"pull-requests/0/{entry['pull_request']['id']}.json")
        about = {name: value for name, value in entry.items() if name != "pull_request"}
        if "comment" in about:
            [comment] = [one for one in document["comments"] if one["id"] == about["comment"]["id"]]
            yield about["comment"], comment
            ids = [one["comment"]["id"] for one in document["activity"] if "comment" in one]
            assert ids.count(comment["id"]) == 1
            continue
        kept = [one for one in document["activity"] if "comment" not in one]
        yield about, min(kept, key=lambda one: len(lost(about, one)))


def _patches(held: Held, wire: Wire) -> Pairs:
    for number in held.world.workspaces["acme"].repositories["website"].pull_requests:
        patch = held.document(f"pull-requests/0/{number}.json").get("patch")
        if patch is not None:
            content = wire.bytes_of(api.PULL_REQUEST_PATCH, id=number, **WEBSITE)
            yield content.decode(), held.file(patch).decode()


def _repositories(held: Held, wire: Wire) -> Pairs:
    listed = held.document("repositories.json", of="workspace")
    for one in wire.every(api.REPOSITORIES, workspace="acme"):
        assert listed[one["uuid"]] == one["full_name"]
        latest = folder_of(held, one["full_name"]).metadata.latest()
        assert latest is not None
        yield one, folder_of(held, one["full_name"]).metadata.read(latest, "repository.json")


def folder_of(held: Held, full_name: str) -> RepositoryFolder:
    [found] = [one for one in held.store.repositories() if one.full_name == full_name]
    return found


def of_projects(held: Held, wire: Wire, row: Row) -> Pairs:
    for key in held.world.workspaces["acme"].projects:
        document = held.document(f"projects/{key.lower()}.json", of="workspace")
        kept = document[row.name.removeprefix("project_")]
        names = {"workspace": "acme", "project": key}
        if row.endpoint.page_size:
            yield from matched(wire.every(row.endpoint, **names), kept)
        else:
            yield wire.one(row.endpoint, **names), kept


def of_snippets(held: Held, wire: Wire, name: str, endpoint: Endpoint) -> Pairs:
    for one in wire.every(api.SNIPPETS, workspace="acme"):
        document = held.document(snippet_path(one["id"]), of="workspace")
        if name == "snippet":
            yield one, document["snippet"]
            yield wire.one(api.SNIPPET, workspace="acme", snippet=one["id"]), document["snippet"]
        elif name == "files":
            snippet = wire.one(api.SNIPPET, workspace="acme", snippet=one["id"])
            assert snippet["files"].keys() == document["files"].keys()
            for file, pointer in document["files"].items():
                node = snippet["files"][file]["links"]["self"]["href"].split("/")[-3]
                content = wire.bytes_of(endpoint, workspace="acme", snippet=one["id"], node=node, name=file)
                stored = held.workspace.file(pointer["sha256"])
                assert stored is not None
                with stored:
                    yield content.hex(), stored.read().hex()
        else:
            yield from matched(wire.every(endpoint, workspace="acme", snippet=one["id"]), document[name])


def _environments(held: Held, wire: Wire, name: str) -> Pairs:
    for one in wire.every(api.ENVIRONMENTS, **WEBSITE):
        document = held.document(f"environments/{one['uuid'].strip('{}')}.json")
        if name == "environment":
            yield one, document["environment"]
        else:
            shown = wire.every(api.ENVIRONMENT_VARIABLES, environment=one["uuid"], **WEBSITE)
            yield from matched(shown, document["variables"])


def _deployments(held: Held, wire: Wire) -> Pairs:
    for one in wire.every(api.DEPLOYMENTS, **WEBSITE):
        yield one, held.document(f"deployments/{one['uuid'].strip('{}')}.json")["deployment"]


def _downloaded(held: Held, wire: Wire) -> Pairs:
    for one in held.document("downloads.json"):
        content = wire.bytes_of(api.DOWNLOAD, name=one["name"], **WEBSITE)
        yield content.hex(), held.file(one["_content"]).hex()


def numbered(held: Held, wire: Wire, endpoint: Endpoint, folder: str, key: str) -> Pairs:
    for one in wire.every(endpoint, **WEBSITE):
        number = one.get("id") or one["build_number"]
        yield one, held.document(f"{folder}/{number // 100}/{number}.json")[key]


def of_issues(held: Held, wire: Wire, name: str, endpoint: Endpoint) -> Pairs:
    for number in held.world.workspaces["acme"].repositories["website"].issues:
        shown = wire.every(endpoint, id=number, **WEBSITE)
        kept = held.document(f"issues/0/{number}.json")[name]
        yield from matched(shown, kept)
        if name == "attachments":
            for one in kept:
                content = wire.bytes_of(api.ISSUE_ATTACHMENT, id=number, name=one["name"], **WEBSITE)
                yield content.hex(), held.file(one["_content"]).hex()


def of_steps(held: Held, wire: Wire, name: str) -> Pairs:
    for slug in ("website", "api"):
        folder = folder_of(held, f"acme/{slug}")
        latest = folder.metadata.latest()
        assert latest is not None
        where = {"workspace": "acme", "repository": slug}
        for pipeline in wire.every(api.PIPELINES, **where):
            number = pipeline["build_number"]
            document: Any = folder.metadata.read(latest, f"pipelines/{number // 100}/{number}.json")
            place = {**where, "pipeline": pipeline["uuid"]}
            steps = wire.every(api.PIPELINE_STEPS, **place)
            if name == "steps":
                yield from matched(steps, document["steps"])
            for step in (one["uuid"] for one in steps):
                if name == "logs" and step in document["logs"]:
                    stored = folder.file(document["logs"][step]["sha256"])
                    assert stored is not None
                    with stored:
                        yield wire.bytes_of(api.STEP_LOG, step=step, **place).hex(), stored.read().hex()
                if name == "test_reports" and step in document["test_reports"]:
                    yield from _report(wire, document["test_reports"][step], {**place, "step": step})


def of_services(held: Held, wire: Wire) -> Pairs:
    """The logs of the service containers, as the steps on the wire name them."""
    for pipeline in wire.every(api.PIPELINES, **WEBSITE):
        number, place = pipeline["build_number"], {**WEBSITE, "pipeline": pipeline["uuid"]}
        kept = held.document(f"pipelines/{number // 100}/{number}.json")["logs"]
        for step in wire.every(api.PIPELINE_STEPS, **place):
            # A running pipeline has no log to store yet.
            for uuid in (one["uuid"] for one in step.get("services", ()) if one["uuid"] in kept):
                shown = wire.bytes_of(api.SERVICE_LOG, step=step["uuid"], log=uuid, **place)
                yield shown.hex(), held.file(kept[uuid]).hex()


def _report(wire: Wire, kept: Any, place: dict[str, str]) -> Pairs:
    yield wire.one(api.TEST_REPORT, **place), kept["report"]
    yield from matched(wire.every(api.TEST_CASES, **place), [one["case"] for one in kept["cases"]])
    for one in kept["cases"]:
        if one["reasons"] is not None:
            shown = wire.every(api.TEST_CASE_REASONS, case=one["case"]["uuid"], **place)
            yield from matched(shown, one["reasons"])


def of_commits(held: Held, wire: Wire, name: str, endpoint: Endpoint) -> Pairs:
    website = held.world.workspaces["acme"].repositories["website"]
    for commit in {*website.commit_comments, *website.reports}:
        document = held.document(f"commit-comments/{commit[:2]}/{commit}.json")
        shown = wire.every(endpoint, commit=commit, **WEBSITE)
        if name == "comments":
            yield from matched(shown, document["comments"])
            continue
        yield from matched(shown, [one["report"] for one in document["reports"]])
        for one in document["reports"]:
            notes = wire.every(api.REPORT_ANNOTATIONS, commit=commit, report=one["report"]["uuid"], **WEBSITE)
            yield from matched(notes, one["annotations"])


def of_heads(held: Held, wire: Wire, name: str) -> Pairs:
    """Statuses and approvals of the commits to which branches point."""
    website = held.world.workspaces["acme"].repositories["website"]
    for commit in {value for ref, value in website.refs().items() if ref.startswith(b"refs/heads/")}:
        document = held.document(f"commit-comments/{commit[:2]}/{commit}.json")
        if name == "statuses" and document[name] is not None:
            yield from matched(wire.every(api.COMMIT_STATUSES, commit=commit, **WEBSITE), document[name])
        if name == "participants":
            shown = wire.one(api.COMMIT, commit=commit, **WEBSITE)["participants"]
            yield from matched(shown, document[name])


def of_schedules(held: Held, wire: Wire) -> Pairs:
    kept = held.document("settings/schedule-executions.json")
    for one in wire.every(api.SCHEDULES, **WEBSITE):
        shown = wire.every(api.SCHEDULE_EXECUTIONS, schedule=one["uuid"], **WEBSITE)
        yield from matched(shown, kept[one["uuid"]])


def _system_key(held: Held, wire: Wire) -> Pairs:
    pointer = held.document("settings/system-gpg-key.json", of="workspace")
    stored = held.workspace.file(pointer["sha256"])
    assert stored is not None
    with stored:
        yield wire.bytes_of(api.SYSTEM_KEY, workspace="acme").hex(), stored.read().hex()


def _setting(held: Held, wire: Wire, row: Row) -> Pairs:
    """One document, which is a list or an object."""
    kept = held.document(row.document, of="workspace" if row.level == "workspace" else "website")
    names = {**WEBSITE, "branch": "main"}
    if row.endpoint.page_size:
        yield from matched(wire.every(row.endpoint, **names), kept)
    else:
        yield wire.one(row.endpoint, **names), kept


Rule = Callable[[Held, Wire], Pairs]
# Data without a document of its own, with one response.
RULES: dict[str, Rule] = {
    "repositories": _repositories,
    "repository list": _repositories,
    "projects": lambda h, w: (
        (one, h.document(f"projects/{one['key'].lower()}.json", of="workspace")["project"])
        for one in w.every(api.PROJECTS, workspace="acme")
    ),
    "snippets": lambda h, w: of_snippets(h, w, "snippet", api.SNIPPETS),
    "snippet files": lambda h, w: of_snippets(h, w, "files", api.SNIPPET_FILE),
    "snippet comments": lambda h, w: of_snippets(h, w, "comments", api.SNIPPET_COMMENTS),
    "snippet commits": lambda h, w: of_snippets(h, w, "commits", api.SNIPPET_COMMITS),
    "environments": lambda h, w: _environments(h, w, "environment"),
    "environment variables": lambda h, w: _environments(h, w, "variables"),
    "deployments": _deployments,
    "downloaded files": _downloaded,
    "pull requests": lambda h, w: numbered(h, w, api.PULL_REQUESTS, "pull-requests", "pull_request"),
    "pull request comments": lambda h, w: of_pulls(h, w, "comments", api.PULL_REQUEST_COMMENTS),
    "pull request tasks": lambda h, w: of_pulls(h, w, "tasks", api.PULL_REQUEST_TASKS),
    "pull request activity and approvals": _activity,
    "pull request statuses": lambda h, w: of_pulls(h, w, "statuses", api.PULL_REQUEST_STATUSES),
    "pull request commits": lambda h, w: of_pulls(h, w, "commits", api.PULL_REQUEST_COMMITS),
    "pull request patch": _patches,
    "issues": lambda h, w: numbered(h, w, api.ISSUES, "issues", "issue"),
    "issue comments": lambda h, w: of_issues(h, w, "comments", api.ISSUE_COMMENTS),
    "issue changes": lambda h, w: of_issues(h, w, "changes", api.ISSUE_CHANGES),
    "issue attachments": lambda h, w: of_issues(h, w, "attachments", api.ISSUE_ATTACHMENTS),
    "pipelines": lambda h, w: numbered(h, w, api.PIPELINES, "pipelines", "pipeline"),
    "pipeline steps": lambda h, w: of_steps(h, w, "steps"),
    "test reports": lambda h, w: of_steps(h, w, "test_reports"),
    "step logs": lambda h, w: of_steps(h, w, "logs"),
    "commit comments": lambda h, w: of_commits(h, w, "comments", api.COMMIT_COMMENTS),
    "commit statuses": lambda h, w: of_heads(h, w, "statuses"),
    "commit approvals": lambda h, w: of_heads(h, w, "participants"),
    "service logs": of_services,
    "schedule executions": of_schedules,
    "system GPG key": _system_key,
    "code insights": lambda h, w: of_commits(h, w, "reports", api.COMMIT_REPORTS),
}


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_every_field_of_every_answer_is_kept(held: Held, wire: Wire, row: Row) -> None:
    rule = RULES.get(row.kind)
    if rule is not None:
        pairs = list(rule(held, wire))
    elif row.level == "project":
        pairs = list(of_projects(held, wire, row))
    else:
        pairs = list(_setting(held, wire, row))
    assert pairs, f"the world has no {row.kind}"
    missing = [(place, json.dumps(shown)[:200]) for shown, kept in pairs for place in lost(shown, kept)]
    assert not missing
