"""Every response of the simulator against Atlassian's own description of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mirror.simulator import Switches, World
from mirror.simulator.api.all_routes import READS
from mirror.simulator.api.routing import Route
from mirror.simulator.authentication import long_name
from mirror.simulator.world.people import braced
from tests.simulator.document import document, need_document, operation, plain
from tests.simulator.helpers import Asking, objects

# Differences between Bitbucket's real responses and its description, which the simulator shares: the reason,
# and the names of each complaint. An entry that is no longer needed fails the test.
KNOWN_DIFFERENCES: dict[str, dict[str, set[str]]] = {
    "the document has no null; Bitbucket writes it for what is not there (yet, or any more)": {
        "null": {
            "assignee", "author", "closed_by", "commit", "component", "edited_on", "from", "mainbranch",
            "last_used", "merge_commit", "milestone", "name", "old", "parent", "participated_on",
            "repository", "state", "updated_on", "user", "version",
        },
    },
    "the document closes these objects after a few properties; answers have type and links, too": {
        "more": {"commit", "content", "description", "merge_commit", "message", "summary", "title"},
    },
    "a task is two closed schemas at once there, which nothing fits": {"more": {"tasks.values", "{}"}},
    "the ids of snippets are words, as the document's own prose shows": {"a word": {"id"}},
    "a parent, and a task's comment, are named by id and links alone": {"no type": {"comment", "parent"}},
    "links are plain; the document makes those of pipelines typed objects": {"no type": {"links", "self"}},
}  # fmt: skip


def checkable(value: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` becomes a type, and discriminators name the types."""
    if isinstance(value, list):
        return [checkable(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: checkable(item) for key, item in value.items() if key not in ("discriminator", "nullable")}
    if value.get("nullable") is True and isinstance(value.get("type"), str):
        result["type"] = [value["type"], "null"]
    return result


@cache
def components() -> dict[str, Any]:
    """The named schemas, at the place to which references point."""
    return {"components": {"schemas": checkable(document()["components"]["schemas"])}}


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """The validator of a named schema, or (for a path) of the response to a GET."""
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{name}"}
    if name.startswith("/"):
        found = operation(name)
        assert found is not None
        content = found["responses"].get("200", {}).get("content", {})
        schema = checkable(content.get("application/json", {}).get("schema", {}))
    return jsonschema.Draft202012Validator({**schema, **components()})


def differences(template: str, answer: Any) -> Iterator[tuple[str, str]]:
    """Complaint and name of everything that does not match: by the schema of its path, and each object by the
    schema of its `type`, which is what the description's discriminators mean."""
    for error in validator(template).iter_errors(answer):
        yield complaint(error), place(error, plain(template).rpartition("/")[2])
    for one in objects(answer):
        kind = one.get("type")
        if isinstance(kind, str) and kind in document()["components"]["schemas"]:
            for error in validator(kind).iter_errors(one):
                yield complaint(error), place(error, kind)


def complaint(error: jsonschema.ValidationError) -> str:
    """The fault in a few words."""
    if error.validator == "additionalProperties":
        return "more"
    if error.validator == "type" and error.instance is None:
        return "null"
    if error.validator == "type" and error.validator_value == "integer" and isinstance(error.instance, str):
        return "a word"
    return "no type" if error.message == "'type' is a required property" else error.message[:200]


def place(error: jsonschema.ValidationError, above: str) -> str:
    """The name of the faulty value; an entry of a list also has the name of the list, `above`."""
    names = [part for part in error.absolute_path if isinstance(part, str)]
    return f"{above}.values" if names == ["values"] else (names or [above])[-1]


def enrich(world: World) -> None:
    """Add what the sample lacks: forks, one that is gone, issues, a running build, a person who left."""
    acme = world.workspaces["acme"]
    website, ann = acme.repositories["website"], world.users["ann@acme.example"]
    gone = world.add_user("Gone Greta", "greta@acme.example")
    fork = acme.add_repository("fork", project="WEB", parent=website)
    fork.commit("patch", {"a": b"a\n"}, "A patch\n")
    website.open_pull_request(source="patch", title="From afar", author=gone, fork=fork).comment(
        "Bye.", author=gone
    )
    lost = acme.add_repository("lost", project="WEB", parent=website)
    website.open_pull_request(source="main", title="From nowhere", author=ann, fork=lost)
    acme.delete_repository("lost")
    gone.deleted = True
    issue = website.add_issue("Broken link", author=ann, comments=["Where?"])
    issue.set_state("open", author=ann)
    issue.attach("screen.png", b"\x89PNG")
    website.tracker = {"milestones": ["M1"], "versions": ["1.0"], "components": ["web"]}
    running = website.add_pipeline(steps=[("build", b"so far\n")], result=None)
    running.steps[0].services = {"redis": b"ready\n"}
    website.add_pipeline(steps=[("build", None)], result="STOPPED")


def addresses(world: World, route: Route) -> Iterator[str]:
    """Every URL of a route that leads to something in the world."""
    acme = world.workspaces["acme"]
    names: list[dict[str, str]] = [{}]
    if "{user}" in route.template:
        names = [{"user": world.users["ann@acme.example"].uuid}]
    if "{workspace}" in route.template:
        names = [{"workspace": "acme"}]
    if "{project}" in route.template:
        names = [{**one, "project": key} for one in names for key in acme.projects]
    if "{repository}" in route.template:
        names = [{**one, "repository": slug} for one in names for slug in acme.repositories]
    if "{snippet}" in route.template:
        names = [{**one, "snippet": key} for one in names for key in acme.snippets]
        names = [
            {**one, "node": acme.snippets[one["snippet"]].commit, "path": path}
            for one in names
            for path in acme.snippets[one["snippet"]].files
        ]
    known = {"workspace", "project", "repository", "user", "snippet", "node", "path"}
    for what in re.findall(r"\{(\w+)\}", route.template):
        if what not in known:
            names = [more for one in names for more in inside(world, route, one, what)]
    for one in names:
        yield route.template.format(**one)


def inside(world: World, route: Route, names: dict[str, str], what: str) -> Iterator[dict[str, str]]:
    """`names` with one more name, for each thing of that kind."""
    if what in KEPT or "repository" not in names:
        for value in kept(world, names, what):
            yield {**names, what: value}
        return
    repository = world.workspaces["acme"].repositories[names["repository"]]
    values: list[str] = []
    match what:
        case "id":
            things = repository.issues if "/issues/" in route.template else repository.pull_requests
            values = [str(number) for number in things]
        case "pipeline":
            values = [one.uuid for one in repository.pipelines.values()]
        case "commit":
            values = [value[:12] for ref, value in repository.refs().items() if b"heads" in ref]
        case "branch":
            main = repository.main_branch()
            values = [main] if main else []
        case "comment":
            values = [str(one.id) for one in repository.pull_requests[int(names["id"])].comments]
        case "step":
            pipelines = repository.pipelines.values()
            values = [s.uuid for one in pipelines if one.uuid == names["pipeline"] for s in one.steps]
        case "case":
            pipelines = repository.pipelines.values()
            steps = [s for one in pipelines for s in one.steps if s.uuid == names["step"]]
            values = [braced("test", s.uuid, name) for s in steps for name in s.tests]
        case "log":
            pipelines = repository.pipelines.values()
            steps = [s for one in pipelines for s in one.steps if s.uuid == names["step"]]
            values = [names["step"], *(s.service(name) for s in steps for name in s.services)]
        case "tag":
            prefix = b"refs/tags/"
            values = [r.removeprefix(prefix).decode() for r in repository.refs() if r.startswith(prefix)]
        case "task":
            values = [str(one.id) for one in repository.pull_requests[int(names["id"])].tasks]
        case "revision":
            values = [value for ref, value in repository.refs().items() if b"heads" in ref]
        case "build":
            statuses = of_commit(repository.commit_statuses, names)
            values = [one["key"] for one in statuses]
        case "remark":
            values = [str(one.id) for one in of_commit(repository.commit_comments, names)]
        case "annotation":
            reports = of_commit(repository.reports, names)
            values = [uuid for one in reports for uuid, _ in one["annotations"]]
        case "filename":
            values = [one.name for one in repository.downloads]
        case "report":
            values = [one["uuid"] for one in of_commit(repository.reports, names)]
        case "spec" if "/src/" in route.template:
            values = [path for path in repository.files(repository.branch("main") or "") if path] * (
                names["commit"] in (repository.branch("main") or "")
            )
        case "spec":
            values = [
                f"{one.source_hash}..{one.destination_hash}"
                for one in repository.pull_requests.values()
                if not one.origin.gone and one.fork is None
            ]
        case "name":
            values = [one.name for one in repository.issues[int(names["id"])].attachments]
    for value in values:
        yield {**names, what: value}


# By the name of a place in an address: the list of settings that it is about, and what names an entry.
KEPT = {
    "restriction": ("branch_restrictions", "id"), "hook": ("hooks", "uuid"), "key": ("deploy_keys", "id"),
    "environment": ("environments", "uuid"), "deployment": ("deployments", "uuid"),
    "runner": ("runners", "uuid"), "schedule": ("schedules", "uuid"), "host": ("known_hosts", "uuid"),
    "variable": ("variables", "uuid"), "group": ("permissions_groups", "group"),
    "permitted": ("permissions_users", "user"), "reviewer": ("default_reviewers", "user"),
}  # fmt: skip


def kept(world: World, names: dict[str, str], what: str) -> Iterator[str]:
    """What names the entries of a list of settings, of the repository, project or workspace of `names`."""
    acme = world.workspaces["acme"]
    if what == "member":
        yield from (
            user.uuid for user in world.users.values() if user.belongs_to("acme") and not user.deleted
        )
        return
    if what == "remark":
        yield from (str(one.id) for one in acme.snippets[names["snippet"]].comments)
        return
    settings = acme.settings
    if "repository" in names:
        settings = acme.repositories[names["repository"]].settings
    elif "project" in names:
        settings = acme.project_settings.get(names["project"], {})
    name, field = KEPT[what]
    for one in settings.get(name, []):
        match one:
            case {"@user": email} | {"user": {"@user": email}}:
                yield world.users[email].uuid
            case {"group": group}:
                yield group["slug"]
            case _:
                yield str(one[field])


def of_commit(lists: dict[str, list[Any]], names: dict[str, str]) -> list[Any]:
    """What is kept of the commit of `names`."""
    return [one for value, several in lists.items() if value.startswith(names["commit"]) for one in several]


# Not among the paths of the description; the second is in one of its examples.
UNDOCUMENTED = {
    "/addon/linkers",
    "/snippets/{workspace}/{snippet}/files/{node}/{path}",
    "/repositories/{workspace}/{repository}/src/{commit}",
}
# Responses without a body to check, or with no body at all.
MAY_BE = {
    "/repositories/{workspace}/{repository}/pipelines/{pipeline}/steps/{step}/log": {200, 307, 404},
    "/repositories/{workspace}/{repository}/pipelines/{pipeline}/steps/{step}/logs/{log}": {200, 307, 404},
    "/repositories/{workspace}/{repository}/issues/{id}/attachments/{name}": {302},
    "/snippets/{workspace}/{snippet}/files/{path}": {302},
    # The fork is gone, and its commits with it.
    "/repositories/{workspace}/{repository}/pullrequests/{id}/commits": {200, 404},
    "/user/workspaces": {200, 403},
    "/repositories/{workspace}/{repository}/pullrequests/activity": {200, 404},
    "/repositories/{workspace}/{repository}/downloads/{filename}": {302},
    **{
        f"/repositories/{{workspace}}/{{repository}}/pullrequests/{{id}}/{name}": {302, 404}
        for name in ("patch", "diff", "diffstat")
    },
    # Some are empty.
    "/repositories/{workspace}/{repository}/src": {200, 404},
    **{
        f"/repositories/{{workspace}}/{{repository}}/pipelines/{{pipeline}}/steps/{{step}}/{name}": {200, 404}
        for name in ("test_reports", "test_reports/test_cases")
    },
    # Never set up.
    "/repositories/{workspace}/{repository}/pipelines_config": {200, 404},
    "/repositories/{workspace}/{repository}/pipelines_config/ssh/key_pair": {200, 404},
}


@need_document
@pytest.mark.parametrize(
    "switches",
    [
        Switches(issue_tracker=True, access_tokens_query_permissions=True),
        # A stray refusal is no response to compare.
        replace(Switches.inverted(), stray_refusals=False),
        Switches(repositories_show_trackers=True),
    ],
    ids=["default", "inverted", "no tracker"],
)
async def test_answers_fit_the_published_schemas(tmp_path: Path, switches: Switches) -> None:
    ask = Asking(tmp_path, switches=switches)
    enrich(ask.world)
    faults: set[tuple[str, str]] = set()
    for route in READS:
        if route.kinds is not None or operation(route.template) is None:
            continue
        asked = 0
        for address in addresses(ask.world, route):
            answer = await ask(address)
            if answer.status_code == 401:  # now and then, but not the next time
                answer = await ask(address)
            asked += 1
            of_tracker = address.rpartition("/")[2] in ("milestones", "versions", "components")
            if (
                answer.status_code == 410
                and ("/issues" in address or of_tracker)
                and not switches.issue_tracker
            ):
                continue
            allowed = MAY_BE.get(route.template, {200})
            if route.permissions and not switches.access_tokens_query_permissions:
                allowed = {403}
            assert answer.status_code in allowed, f"{address}: {answer.text}"
            if answer.status_code == 200 and "json" in answer.headers["Content-Type"]:
                faults |= set(differences(route.template, answer.json()))
        assert asked, f"nothing in the world is at {route.template}"
    known = {
        (what, name) for one in KNOWN_DIFFERENCES.values() for what, names in one.items() for name in names
    }
    assert faults - known == set()
    if switches.issue_tracker and switches.deleted_accounts_are_null:
        assert known - faults == set(), "differences that nothing needs any more"


@need_document
def test_routes_ask_for_the_scopes_that_the_document_names() -> None:
    for route in READS:
        found = operation(route.template)
        if found is None:
            assert route.template in UNDOCUMENTED, f"{route.template} is not in the document"
            continue
        # The server checks the permission for issues after their existence.
        of_tracker = route.template.endswith(("/milestones", "/versions", "/components"))
        scope = "issue" if "/issues" in route.template or of_tracker else route.scope
        [classic] = [one["oauth2"] for one in found["security"] if "oauth2" in one]
        # If two are named, the narrower one decides.
        assert ([scope] if scope else []) == classic[-1:], route.template
        [long] = found["x-atlassian-oauth2-scopes"]
        assert long["scopes"] == [route.long or long_name(scope or "")], route.template


CLIENT_ROOMS = ("bitbucket", "auth", "collect", "discovery", "backup", "git")


def test_the_simulator_and_the_client_share_no_code() -> None:
    package = Path(__file__).parents[2] / "mirror"
    for path in (package / "simulator").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.match(r"\s*(?:from|import)\s+(mirror[\w.]*)", line)
            assert found is None or found[1].startswith("mirror.simulator"), f"{path}: {line}"
    for room in CLIENT_ROOMS:
        for path in (package / room).rglob("*.py"):
            assert "mirror.simulator" not in path.read_text(encoding="utf-8"), path
