"""Every field that Bitbucket lets anyone set is brought back, and a plan without it is noticed.

What the API shows of a repository, a project and a workspace is planned, sent to the simulator, and read
again. Then the same is done with each field left out of the catalogue's row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from mirror.bitbucket.settable import settable_fields
from mirror.bitbucket.writes import Write
from mirror.collect import catalogue
from mirror.collect.catalogue import CATALOGUE, Row
from mirror.collect.put_back import Sent
from mirror.model import Json, Repository, value_at
from mirror.restore.plan import settings
from mirror.restore.plan.repository import steps_of_projects, steps_of_repository
from mirror.restore.plan.source import Options, Target
from mirror.restore.plan.steps import Call, Loss, Step, Why
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.settings import branch_restriction, environment, hook, variable
from tests.restore.plan.driving import Driver
from tests.restore.plan.given import Given, given
from tests.simulator.helpers import Asking

# Requests of projects, repositories, pull requests and commits: their planners have tests of their own.
ELSEWHERE = re.compile(
    r"(POST /workspaces/\{\}/projects|PUT /repositories/\{\}/\{\})$|/pullrequests|/commit/"
)
GROUP = {"type": "group", "name": "Developers", "slug": "developers", "full_slug": "acme:developers"}
ANN = {"@user": "ann@acme.example"}
COMMENTS = "snippet comments"
SECRET = "the secret of "
MODEL: dict[str, Any] = {
    "type": "branching_model_settings",
    "branch_types": [
        {"kind": "feature", "prefix": "topic/", "enabled": True},
        {"kind": "hotfix", "prefix": "hot/", "enabled": False},
    ],
    "development": {"name": "topic", "use_mainbranch": False, "is_valid": True},
    "production": {"name": "main", "use_mainbranch": False, "enabled": True, "is_valid": True},
    "default_branch_deletion": "true",
}


@dataclass(frozen=True)
class Stored(Given):
    """A snapshot whose files are all in the store."""

    def stored(self, sha256: str) -> Any:
        return sha256


def _request(method: str, template: str) -> str:
    """A request without the names of its placeholders, which differ."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', template)}"


FIELDS = {_request(*key.split(" ", 1)): fields for key, fields in settable_fields().items()}


def _fill(repository: SimRepository) -> None:
    """Settings of which none is as a new repository has it."""
    owner, production = repository.uuid, {**environment("Live", repository.uuid), "rank": 5}
    chosen = {**branch_restriction(3, "restrict_merges", ""), "branch_match_kind": "branching_model"}
    repository.settings.update(
        {
            "branch_restrictions": [
                {**branch_restriction(1, "push", "main"), "groups": [GROUP]},
                branch_restriction(2, "require_approvals_to_merge", "release/*", value=2),
                {**chosen, "branch_type": "production", "users": [ANN], "groups": [GROUP]},
            ],
            "branching_model_settings": MODEL,
            "hooks": [
                hook("https://ci.acme.example/hook", owner),
                {**hook("https://ci.acme.example/off", owner), "active": False, "secret_set": False},
            ],
            "environments": [production],
        }
    )
    [schedule] = repository.settings["schedules"]
    another = {**schedule, "uuid": "{1}", "enabled": False, "cron_pattern": "0 0 4 * * ? *"}
    repository.settings["schedules"] = [schedule, another]
    repository.environment_variables[production["uuid"]] = [
        variable("HOST", "shop", "live"), variable("TOKEN", None, "live")
    ]  # fmt: skip


BY_KIND = {row.kind: row for row in CATALOGUE if isinstance(row.put_back, Sent)}
# Where environments are planned, so are their variables.
TOGETHER = {"environments": "environment variables", "environment variables": "environments"}


def _write(row: Row) -> Write:
    return cast("Sent", row.put_back).write


class Bench:
    """The sample, what it shows, and an empty repository beside it that is filled again and again."""

    def __init__(self, folder: Path) -> None:
        self.asking = Asking(folder)
        self.user = self.asking.writing_user()
        self.acme = self.asking.world.workspaces["acme"]
        website = self.acme.repositories["website"]
        website.set_ref(b"refs/heads/topic", website.branch("main") or "")
        _fill(website)
        for one in self.acme.project_settings.values():
            one["branching_model_settings"] = MODEL
        [snippet] = self.acme.snippets.values()
        snippet.private = False
        snippet.comments.append(replace(snippet.comments[0], id=10_000, parent=snippet.comments[0].id))
        self.copy = self.acme.add_repository("copy", project="WEB", parent=website)
        # By level, what a backup would store; and by kind, what there was.
        self.stored: dict[str, dict[str, Json]] = {"repository": {}, "workspace": {}}
        self.shown: dict[str, list[Any]] = {}
        self.secrets: dict[str, str] = {}

    async def back_up(self) -> None:
        """Read all of the sample."""
        repository, workspace = self.stored["repository"], self.stored["workspace"]
        project: dict[str, Any] = {"project": {"key": "WEB"}}
        for row in BY_KIND.values():
            found = self.shown[row.kind] = await self.of(row, "website")
            content: Json = found if _write(row).key else found[0]
            if row.level == "project":
                project[row.name.removeprefix("project_")] = content
            elif row.document.startswith("settings/"):
                self.stored[row.level][row.document] = content
        workspace["projects/web.json"] = project
        repository["pull-requests/0/1.json"] = {}
        repository["environments/1.json"] = {
            "environment": self.shown["environments"][0], "variables": self.shown["environment variables"],
        }  # fmt: skip
        pointer = {"sha256": "aa", "size": 2}
        repository["downloads.json"] = [
            {**one, "_content": {**pointer, "size": one["size"]}} for one in self.shown["downloads"]
        ]
        [snippet] = self.shown["snippets"]
        comments = self.shown[COMMENTS] = await self.comments()
        workspace["snippets/1.json"] = {
            "snippet": snippet, "files": {"deploy.sh": pointer}, "comments": comments,
        }  # fmt: skip
        for one in self.planned():
            if isinstance(one, Loss) and one.why is Why.SECRET:
                self.secrets[one.key] = f"{SECRET}{one.key}"

    async def of(self, row: Row, repository: str) -> list[Any]:
        """All of a kind that a repository, the project or the workspace has, with its secrets."""
        if row.kind == "environment variables":
            several = await self._list(BY_KIND["environments"], repository=repository)
            found = [
                entry
                for one in several
                for entry in await self._list(row, repository=repository, environment=one["uuid"])
            ]
        else:
            found = await self._list(row, repository=repository)
        hidden, kept = _write(row).hidden, self.asking.world.secrets
        return [
            {**one, hidden.field: kept[one["uuid"]]} if hidden is not None and one["uuid"] in kept else one
            for one in found
        ]

    async def comments(self) -> list[Any]:
        """The comments of all snippets."""
        several = await self._list(BY_KIND["snippets"])
        return [
            entry
            for one in several
            for entry in await self.asking.entries(f"/snippets/acme/{one['id']}/comments", self.user)
        ]

    async def _list(self, row: Row, **parts: str) -> list[Any]:
        path = row.endpoint.path(**{"workspace": "acme", "project": "WEB", **parts})
        if row.endpoint.page_size:
            return await self.asking.entries(path, self.user)
        answer = await self.asking(path, self.user)
        return [answer.json()] if answer.status_code == 200 else []

    def planned(self) -> list[Step | Loss]:
        """What is planned of all that is stored, with every secret that there is."""
        options = Options(activate_hooks=True, secrets=frozenset(self.secrets))
        parts: dict[str, Any] = {**vars(given()), "branches": {"main": "a" * 40, "topic": "b" * 40}}
        website = Stored(**{**parts, "documents": self.stored["repository"]})
        acme = Stored(**{**parts, "name": "~workspace", "documents": self.stored["workspace"]})
        return [
            *settings.steps_of_workspace(acme, Target("acme"), options),
            *settings.steps_of_settings(website, Target("acme", "copy"), options),
        ]

    async def restored(self, made: Iterable[Step | Loss]) -> Driver:
        """Make the copy, the project and the workspace as if they were new, and send a plan to them."""
        self.copy.settings.clear()
        self.copy.environment_variables.clear()
        self.copy.downloads.clear()
        self.copy.pipelines_enabled = False
        self.acme.settings.clear()
        self.acme.project_settings.clear()
        self.acme.snippets.clear()
        self.asking.world.secrets.clear()
        driver = Driver(self.asking, self.user, self.secrets)
        await driver.carry(made)
        return driver

    async def lacking(self, kind: str, driver: Driver) -> set[str]:
        """The fields of a kind that did not come back, or that nothing sent."""
        if kind == COMMENTS:
            request, found = "POST /snippets/{}/{}/comments", await self.comments()
        else:
            write = _write(BY_KIND[kind])
            request = _request(write.method, write.endpoint.template)
            found = await self.of(BY_KIND[kind], "copy")
        sent = [body for one, body in driver.sent if _request(*one.split(" ", 1)) == request]
        fields, before = FIELDS.get(request, ()), self.shown[kind]
        if len(found) != len(before):
            return {*fields, "all of it"}
        return {
            name
            for name in fields
            if not any(value_at(body, name) is not None for body in sent)
            or not all(_agrees(kind, name, *pair) for pair in zip(before, found, strict=True))
        }


def _agrees(kind: str, name: str, before: Any, after: Any) -> bool:
    """Whether a field is as it was. Texts of comments begin with whose they were; numbers are new ones."""
    one, other = value_at(before, name), value_at(after, name)
    if kind == COMMENTS:
        return (one is None) == (other is None) and (name != "content.raw" or str(other).endswith(one))
    secret = _write(BY_KIND[kind]).hidden
    if secret is not None and secret.field == name and value_at(before, secret.flag):
        return str(other).startswith(SECRET)
    return bool(one == other)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    await made.back_up()
    return made


async def test_every_field_comes_back(bench: Bench) -> None:
    driver = await bench.restored(bench.planned())
    assert driver.refused == {}
    assert len(bench.secrets) == 4
    for kind in (*BY_KIND, COMMENTS):
        assert await bench.lacking(kind, driver) == set(), kind


def _without(row: Row, name: str) -> Row:
    """The row whose plan lacks a field."""
    write, sent = _write(row), cast("Sent", row.put_back)
    body = tuple(one for one in write.body if one != name)
    hidden = None if write.hidden is not None and write.hidden.field == name else write.hidden
    # The comment of a key stands in the key, too.
    form = dict if name == "comment" else write.form
    return replace(row, put_back=replace(sent, write=replace(write, body=body, hidden=hidden, form=form)))


async def test_a_plan_without_a_field_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    unnoticed = []
    for kind, row in BY_KIND.items():
        write = _write(row)
        others = [one for one in CATALOGUE if one.kind == TOGETHER.get(kind)]
        monkeypatch.setattr(catalogue, "CATALOGUE", (row, *others))
        assert await bench.lacking(kind, await bench.restored(bench.planned())) == set()
        for name in FIELDS.get(_request(write.method, write.endpoint.template), ()):
            monkeypatch.setattr(catalogue, "CATALOGUE", (_without(row, name), *others))
            driver = await bench.restored(bench.planned())
            if name not in await bench.lacking(kind, driver):
                unnoticed.append((kind, name))
    assert unnoticed == []


def test_every_settable_field_is_somebodys() -> None:
    planned = {_request(_write(row).method, _write(row).endpoint.template) for row in BY_KIND.values()}
    rest = {one for one in FIELDS if not ELSEWHERE.search(one)} - planned
    assert rest == {
        "POST /snippets/{}/{}/comments",  # compared above
        "PUT /repositories/{}/{}/pipelines_config/build_number",  # no endpoint shows it
        "PUT /repositories/{}/{}/pipelines_config/ssh/key_pair",  # nobody shows the private key
    }


# -- projects and repositories

REPOSITORY_FIELDS = FIELDS["PUT /repositories/{}/{}"]
PROJECT_FIELDS = FIELDS["POST /workspaces/{}/projects"]
PROFILE: dict[str, Any] = {
    "scm": "git", "name": "Website", "description": "The shop", "is_private": False, "language": "python",
    "fork_policy": "no_forks", "mainbranch": {"name": "topic"}, "project": {"key": "WEB"},
}  # fmt: skip
PROJECT = {"key": "WEB", "name": "Web", "description": "Shops", "is_private": False}


@dataclass(frozen=True)
class Profiled(Stored):
    """A snapshot of a repository with a profile."""

    @property
    def repository(self) -> Repository:
        return Repository("{u}", "acme", "website", "WEB", PROFILE)


def _places_lacking(*without: str) -> set[str]:
    """The fields of projects and repositories that no planned request sends as they were; those `without`
    are left out of what is planned."""
    base: dict[str, Any] = {**vars(given()), "branches": {"main": "a" * 40, "topic": "b" * 40}}
    website = Profiled(**base)
    acme = Stored(**{**base, "name": "~workspace", "documents": {"projects/web.json": {"project": PROJECT}}})
    target = Target("spare", "website")
    made = [
        *steps_of_projects(acme, [website], target),
        *steps_of_repository(website, target, Options()),
    ]
    sent: dict[str, list[Any]] = {"projects": [], "repository profile": [], "refs": []}
    for one in made:
        if isinstance(one, Step) and isinstance(one.action, Call):
            sent[one.kind].append({k: v for k, v in cast("Any", one.action.body).items() if k not in without})
    several = (
        (PROJECT, PROJECT_FIELDS, ("projects",)),
        (PROFILE, REPOSITORY_FIELDS, ("repository profile", "refs")),
    )
    return {
        name
        for shown, fields, kinds in several
        for name in fields
        if value_at(shown, name) not in [value_at(body, name) for kind in kinds for body in sent[kind]]
    }


def test_every_field_of_projects_and_repositories_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is not given has no mirror in which LFS objects could be.
    monkeypatch.setattr("mirror.restore.plan.repository._lfs_objects", lambda _source, _tips: iter(()))
    assert _places_lacking() == set()
    for name in {*PROJECT_FIELDS, *REPOSITORY_FIELDS}:
        assert name in _places_lacking(name.partition(".")[0])
