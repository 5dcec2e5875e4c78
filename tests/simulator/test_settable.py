"""Every field that anybody may set is taken by the simulator, and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirror.simulator.api.paging import value_at
from mirror.simulator.writes.routes import WRITES
from mirror.simulator.writes.schemas import AnyValue, Array, Boolean, Integer, Object, String
from tests.simulator.document import document, need_document, plain
from tests.simulator.helpers import Asking
from tests.simulator.settable import KEPT, REQUESTS, derived, properties, settable

Body = dict[str, Any]
R = "/repositories/{workspace}/{repo_slug}"
W = "/workspaces/{workspace}"
P = f"{W}/projects/{{project_key}}"
KEY = "ssh-ed25519 AAAA{} ann@acme.example"
VARIABLE: Body = {"key": "K{}", "value": "v", "secured": False}
HOOK: Body = {"url": "https://ci.example.org/{}", "events": ["repo:push"]}
INLINE: Body = {"content": {"raw": "Hm."}, "inline": {"path": "README.md", "to": 3}}
SCHEDULE: Body = {
    "cron_pattern": "0 0 3 * * ? *",
    "target": {"ref_type": "branch", "ref_name": "main", "selector": {"type": "branches"}},
}
BRANCH: Body = {"branch_match_kind": "branching_model", "pattern": None}
PEOPLE: Body = {"kind": "push", "users": [], "groups": []}
MODEL: Body = {}


@dataclass(frozen=True)
class Case:
    """How a request is tried: a body that is good as it is (`{}` in a text becomes a number that is
    another each time), values for its fields where the plain ones below do not do, what else a field needs
    in the body, where what was made is read, and what is never read back."""

    request: str
    base: Body
    read: str = ""
    values: dict[str, list[Any]] = field(default_factory=dict)
    needs: dict[str, Body] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()


LINES: dict[str, list[Any]] = {f"inline.{name}": [2] for name in ("from", "to", "start_from", "start_to")}
STATES: dict[str, list[Any]] = {"state": ["FAILED", "INPROGRESS", "STOPPED", "SUCCESSFUL"]}
KEYS: dict[str, list[Any]] = {"key": ["ssh-rsa BBBB{}"], "comment": ["on its own"]}
NO_COMMENT: dict[str, Body] = {"comment": {"key": "ssh-rsa CCCC{}"}}
TYPES: dict[str, list[Any]] = {
    "branch_types": [[{"kind": "feature", "prefix": "f/", "enabled": True}]],
    "default_branch_deletion": ["true", "false"],
    "development.name": ["main"], "development.use_mainbranch": [True],
    "production.name": ["main"], "production.use_mainbranch": [True], "production.enabled": [True, False],
}  # fmt: skip
ONE: dict[str, Body] = {
    "development.name": {"development": {"use_mainbranch": False}},
    "production.name": {"production": {"use_mainbranch": False, "enabled": True}},
    "production.enabled": {"production": {"use_mainbranch": True}},
}
HOOKS: dict[str, list[Any]] = {
    "url": ["https://other.example.org/{}"], "events": [["repo:push", "pullrequest:created"]],
}  # fmt: skip
CASES = (
    Case(f"POST {W}/projects", {"key": "K{}", "name": "N"}, f"{W}/projects/<key>", {"key": ["X{}"]}),
    Case(f"PUT {P}/branching-model/settings", MODEL, f"{P}/branching-model/settings", TYPES, ONE),
    Case(f"POST {P}/deploy-keys", {"key": KEY}, f"{P}/deploy-keys/<id>", KEYS, NO_COMMENT),
    *(
        Case(request, {"permission": "read"}, "", {"permission": values})
        for place, values in ((R, ["read", "write", "admin"]), (P, ["read", "create-repo"]))
        for request in (
            f"PUT {place}/permissions-config/users/{{selected_user_id}}",
            f"PUT {place}/permissions-config/groups/{{group_slug}}",
        )
    ),
    Case(
        f"PUT {R}", {}, R,
        {
            "name": ["api"], "scm": ["git"], "fork_policy": ["allow_forks", "no_public_forks", "no_forks"],
            "project.key": ["WEB"], "mainbranch.name": ["fix/rounding", "main"],
        },
    ),
    Case(f"PUT {R}/branching-model/settings", MODEL, f"{R}/branching-model/settings", TYPES, ONE),
    Case(
        f"PUT {R}/override-settings", {"override_settings": {}}, f"{R}/override-settings",
        {"override_settings": [{"branching_model": True, "default_merge_strategy": False}]},
    ),
    Case(
        f"POST {R}/branch-restrictions",
        {"kind": "force", "branch_match_kind": "glob", "pattern": "p{}"}, f"{R}/branch-restrictions/<id>",
        {
            "kind": ["delete", "require_tasks_to_be_completed", "enforce_merge_checks"],
            "branch_match_kind": ["glob"], "branch_type": ["production"], "users": [["@bob"]],
            "groups": [["@developers"]],
        },
        {"branch_type": BRANCH, "users": PEOPLE, "groups": PEOPLE},
    ),
    Case(f"POST {R}/deploy-keys", {"key": KEY}, f"{R}/deploy-keys/<id>", KEYS, NO_COMMENT),
    Case(f"POST {R}/hooks", HOOK, f"{R}/hooks/<uuid>", HOOKS, hidden=("secret",)),
    Case(f"POST {W}/hooks", HOOK, f"{W}/hooks/<uuid>", HOOKS, hidden=("secret",)),
    Case(f"PUT {R}/pipelines_config", {"enabled": True}, f"{R}/pipelines_config"),
    Case(f"PUT {R}/pipelines_config/build_number", {"next": 90}, "", {"next": [100]}),
    Case(f"POST {R}/pipelines_config/variables", VARIABLE, f"{R}/pipelines_config/variables/<uuid>"),
    Case(f"POST {W}/pipelines-config/variables", VARIABLE, f"{W}/pipelines-config/variables/<uuid>"),
    Case(f"POST {R}/deployments_config/environments/{{environment_uuid}}/variables", VARIABLE),
    Case(
        f"PUT {R}/pipelines_config/ssh/key_pair", {"public_key": "ssh-rsa A"},
        f"{R}/pipelines_config/ssh/key_pair", hidden=("private_key",),
    ),
    Case(
        f"POST {R}/pipelines_config/ssh/known_hosts",
        {"hostname": "h{}.example", "public_key": {"key_type": "ssh-rsa", "key": "A"}},
        f"{R}/pipelines_config/ssh/known_hosts/<uuid>",
    ),
    Case(
        f"POST {R}/pipelines_config/schedules", SCHEDULE, f"{R}/pipelines_config/schedules/<uuid>",
        {
            "cron_pattern": ["0 30 4 * * ? *"], "target.ref_type": ["branch"],
            "target.selector.type": ["branches", "custom"],
        },
    ),
    Case(
        f"POST {R}/environments", {"name": "E{}"}, f"{R}/environments/<uuid>",
        {"environment_type.name": ["Test", "Staging", "Production"]},
    ),
    Case(
        f"POST {R}/pullrequests", {"title": "T", "source": {"branch": {"name": "b{}"}}},
        f"{R}/pullrequests/<id>",
        {
            "source.branch.name": ["b{}"], "destination.branch.name": ["fix/rounding"],
            "reviewers": [["@bob"], []],
        },
    ),
    Case(
        f"POST {R}/pullrequests/{{pull_request_id}}/comments", INLINE,
        f"{R}/pullrequests/{{pull_request_id}}/comments/<id>", {**LINES, "parent.id": ["@parent"]},
    ),
    Case(
        f"POST {R}/pullrequests/{{pull_request_id}}/tasks", {"content": {"raw": "Do"}},
        f"{R}/pullrequests/{{pull_request_id}}/tasks/<id>", {"comment.id": ["@parent"]},
    ),
    Case(
        f"PUT {R}/pullrequests/{{pull_request_id}}/tasks/{{task_id}}", {},
        f"{R}/pullrequests/{{pull_request_id}}/tasks/{{task_id}}", {"state": ["RESOLVED", "UNRESOLVED"]},
    ),
    Case(
        f"POST {R}/commit/{{commit}}/comments", INLINE, f"{R}/commit/{{commit}}/comments/<id>",
        {**LINES, "parent.id": ["@remark"]},
    ),
    Case(
        f"POST {R}/commit/{{commit}}/statuses/build",
        {"key": "k{}", "state": "FAILED", "url": "https://ci.example.org/"},
        f"{R}/commit/{{commit}}/statuses/build/<key>", STATES,
    ),
    Case(
        f"PUT {R}/commit/{{commit}}/reports/{{reportId}}", {"title": "T"},
        f"{R}/commit/{{commit}}/reports/<uuid>",
        {
            "report_type": ["SECURITY", "COVERAGE", "TEST", "BUG"], "result": ["PASSED", "FAILED", "PENDING"],
            "data": [[{"title": "Safe", "type": "BOOLEAN", "value": True}]],
        },
    ),
    Case(
        f"PUT {R}/commit/{{commit}}/reports/{{reportId}}/annotations/{{annotationId}}",
        {"annotation_type": "BUG", "summary": "S"},
        f"{R}/commit/{{commit}}/reports/@report/annotations/<uuid>",
        {
            "annotation_type": ["VULNERABILITY", "CODE_SMELL", "BUG"],
            "result": ["PASSED", "FAILED", "SKIPPED", "IGNORED"],
            "severity": ["CRITICAL", "HIGH", "MEDIUM", "LOW"],
        },
    ),
    Case("POST /snippets/{workspace}", {}, "/snippets/{workspace}/<id>", {"scm": ["git"]}),
    Case(
        "POST /snippets/{workspace}/{encoded_id}/comments", {"content": {"raw": "Hm."}},
        "/snippets/{workspace}/{encoded_id}/comments/<id>", {"parent.id": ["@saying"]},
    ),
)  # fmt: skip
FLAGS = {
    "is_private", "enabled", "secured", "active", "pending", "draft", "close_source_branch",
    "remote_link_enabled",
}  # fmt: skip
NUMBERS = {"value": [2], "rank": [7], "line": [3], "next": [100]}


def plain_values(request: str, name: str) -> list[Any]:
    """Values for a field that needs no special ones."""
    last = name.rpartition(".")[2]
    if last in FLAGS:
        return [True, False]
    if last in NUMBERS and not (last == "value" and "variables" in request):
        return NUMBERS[last]
    return ["https://x.example.org/{}"] if last in ("url", "link", "logo_url") else ["X{}"]


def numbered(value: Any, number: int) -> Any:
    """A value with a number where its texts have a place for one."""
    if isinstance(value, str):
        return value.replace("{}", str(number))
    if isinstance(value, dict):
        return {name: numbered(one, number) for name, one in value.items()}
    return [numbered(one, number) for one in value] if isinstance(value, list) else value


def put(body: Body, name: str, value: Any) -> None:
    """Set the field of a dotted name."""
    *path, last = name.split(".")
    for part in path:
        body = body.setdefault(part, {})
    body[last] = value


def simple(value: Any) -> Any:
    """People and groups by what names them."""
    if isinstance(value, list):
        return [simple(one) for one in value]
    if isinstance(value, dict) and value.get("type") in ("user", "group"):
        return {name: value[name] for name in ("uuid", "slug") if name in value}
    return value


class World:
    """The simulator with something for each place in an address."""

    def __init__(self, ask: Asking) -> None:
        self.ask, self.who = ask, ask.writing_user()
        ask.world.sizes["schedules"] = 1000
        acme = ask.world.workspaces["acme"]
        api, bob = acme.repositories["api"], ask.world.users["bob@acme.example"]
        ann, pull = ask.world.users["ann@acme.example"], api.pull_requests[2]
        self.tip = api.branch("main") or ""
        api.report(self.tip, "Report")
        api.settings["environments"] = [{"uuid": "{e}", "name": "Env"}]
        snippet = next(iter(acme.snippets.values()))
        self.meant: dict[str, Any] = {
            "@bob": {"uuid": bob.uuid}, "@developers": {"slug": "developers"},
            "@parent": pull.comment("Parent", author=ann).id,
            "@remark": api.comment_on_commit(self.tip, "Parent", author=ann).id,
            "@saying": snippet.comments[0].id,
        }  # fmt: skip
        self.report = api.reports[self.tip][0]["uuid"]
        self.names = {
            "workspace": "acme", "repo_slug": "api", "project_key": "CORE", "selected_user_id": bob.uuid,
            "group_slug": "developers", "environment_uuid": "{e}", "pull_request_id": "2",
            "task_id": str(pull.tasks[0].id), "commit": self.tip, "reportId": self.report,
            "annotationId": "a", "encoded_id": snippet.id,
        }  # fmt: skip

    def path(self, template: str, made: Body) -> str:
        """An address, with `<field>` of what was made."""
        found = template.format(**self.names).replace("@report", self.report)
        for name in ("key", "id", "uuid"):
            found = found.replace(f"<{name}>", str(made.get(name)))
        return found

    def mean(self, value: Any) -> Any:
        """What a name with an @ stands for."""
        if isinstance(value, list):
            return [self.mean(one) for one in value]
        return self.meant[value] if isinstance(value, str) and value.startswith("@") else value

    async def try_field(self, case: Case, number: int, name: str, value: Any) -> None:
        """Set a field, and read it back."""
        method, _, template = case.request.partition(" ")
        body = numbered(json.loads(json.dumps({**case.base, **case.needs.get(name, {})})), number)
        wanted = self.mean(numbered(value, number))
        put(body, name, wanted)
        if "source" in body:
            branch = body["source"]["branch"]["name"]
            api = self.ask.world.workspaces["acme"].repositories["api"]
            api.commit(branch, {"n": branch.encode()}, "N\n")
        done = await self.ask.write(method, self.path(template, {}), body, self.who)
        assert done.status_code in (200, 201, 204), f"{case.request} {body}: {done.text}"
        made = done.json() if done.content else {}
        shown = made
        if case.read:
            answer = await self.ask(self.path(case.read, made), self.who)
            assert answer.status_code == 200, f"{case.request}: {answer.text}"
            shown = answer.json()
        if name in case.hidden:
            assert name not in shown
        else:
            assert simple(value_at(shown, name)) == wanted, f"{case.request}: {name}"


@need_document
def test_the_settable_fields_are_those_of_the_description() -> None:
    assert derived() == settable(), f"{KEPT} is not what is derived from the description"


TYPES_OF = {"string": String, "integer": Integer, "boolean": Boolean, "array": Array, "object": Object}


def resolved(schema: Body) -> Body:
    """A schema, or the one that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Body = document()["components"]["schemas"][name] if name else schema
    return found


@need_document
def test_bodies_are_checked_as_the_description_has_them() -> None:
    routes = {f"{route.method} {plain(route.template)}": route for route in WRITES}
    for request, name in REQUESTS.items():
        method, _, template = request.partition(" ")
        schema = routes[f"{method} {plain(template)}"].schema
        if name is None:
            continue
        assert isinstance(schema, Object), request
        tops = {one.partition(".")[0] for one in settable()[request]}
        for top in tops & set(properties(name)):
            published, mine = resolved(properties(name)[top]), schema.fields[top]
            if isinstance(mine, AnyValue):
                continue
            kind = "object" if "allOf" in published else published["type"]
            assert isinstance(mine, TYPES_OF[kind]), f"{request}: {top}"
            if isinstance(mine, String):
                assert set(mine.choices) == set(published.get("enum", [])), f"{request}: {top}"
            if isinstance(mine, Object):
                assert mine.closed == (published.get("additionalProperties") is False), f"{request}: {top}"


def test_every_request_is_tried() -> None:
    assert {case.request for case in CASES} == set(settable())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.request)
async def test_what_is_set_is_read_back(tmp_path: Path, case: Case) -> None:
    world, number = World(Asking(tmp_path)), 0
    for name in settable()[case.request]:
        for value in case.values.get(name, plain_values(case.request, name)):
            number += 1
            await world.try_field(case, number, name, value)
