"""Each row of the catalogue: the documents contain everything that the simulator shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from mirror import backup
from mirror.auth.credentials import ApiToken, WorkspaceAccessToken
from mirror.bitbucket import fields
from mirror.collect.catalogue import CATALOGUE, Row, rows
from mirror.config import load
from mirror.config.shape import KindName
from mirror.model import Json, JsonObject, Run, Selector, loads
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.api.render import Renderer
from mirror.simulator.api.routes_settings import SYSTEM_KEY
from mirror.simulator.authentication import long_name
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import RepositoryFolder, Store, WorkspaceFolder
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.simulator.test_conformance import enrich

ALL_SCOPES = frozenset(SCOPES) | {"issue", "snippet"}


@dataclass
class Held:
    """A store with everything in it, and the world that it was made from."""

    world: World
    run: Run
    website: RepositoryFolder
    workspace: WorkspaceFolder
    simulator: Simulator
    store: Store

    @property
    def render(self) -> Renderer:
        return self.simulator.app.render

    def document(self, path: str, *, of: str = "website") -> Any:
        folder = self.workspace if of == "workspace" else self.website
        latest = folder.metadata.latest()
        assert latest is not None
        return folder.metadata.read(latest, path)

    def file(self, pointer: JsonObject) -> bytes:
        stored = self.website.file(pointer["sha256"])
        assert stored is not None
        with stored:
            return stored.read()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """One backup of everything, by a credential that can read all of it."""
    import asyncio

    folder = tmp_path_factory.mktemp("catalogue")
    world = World(folder / "upstream")
    populate(world)
    enrich(world)
    ann = world.users["ann@acme.example"]
    # git no longer has anything of this one.
    upstream = world.workspaces["acme"].repositories["website"]
    main = upstream.branch("main")
    assert main is not None
    upstream.commit("vanished", {"vanished.txt": b"Here\n"}, "Work\n", parents=[main])
    upstream.open_pull_request(source="vanished", title="Vanished", author=ann).decline(author=ann)
    upstream.delete_ref(b"refs/heads/vanished")
    built = upstream.add_pipeline(steps=[("integration", b"Done.\n")])
    built.steps[0].services = {"redis": b"Ready to accept connections\n", "db": b"ready\n"}
    scopes = {long_name(scope) for scope in ALL_SCOPES} | {
        "read:workspace:bitbucket", "read:pullrequest:bitbucket", "read:project:bitbucket",
    }  # fmt: skip
    token = world.add_api_token(ann, scopes)
    switches = Switches(issue_tracker=True, wikis=True)
    with Simulator(world, switches=switches) as simulator:
        config = load(write_config(folder, simulator, token))
        [entry] = config.workspaces
        [old] = entry.credentials
        assert isinstance(old, WorkspaceAccessToken)
        signed = ApiToken("ann@acme.example", old.token)
        config = replace(config, workspaces=(replace(entry, credentials=(signed,)),))
        run = asyncio.run(backup.run(config, clock=FakeClock(), environment=os.environ))
        with Store.open(config.store) as store:
            website = store.repository(Selector.parse("acme/website"))
            [workspace] = store.workspaces()
            yield Held(world, run, website, workspace, simulator, store)


def canonical(value: Any) -> Json:
    """A rendered document as a snapshot would store it."""
    import json

    return fields.stable(loads(json.dumps(value).encode()))


def same(held: Any, shown: Any) -> None:
    """Nothing shown is lost: every field is present with its value; short hashes became full ones."""
    shown = canonical(shown)
    assert fields.merged(held, shown) == held, shown


def test_everything_could_be_read(held: Held) -> None:
    assert held.run.exit_code == 0, [entry.problems for entry in held.run.entries]
    [entry] = [one for one in held.run.entries if one.full_name == "acme/website"]
    assert {name: str(part.state) for name, part in entry.parts.items()} == dict.fromkeys(
        entry.parts, "complete"
    )


SETTINGS = [row for row in rows(level="repository") if row.document.startswith("settings/")]


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_a_setting_of_a_repository(held: Held, row: Row) -> None:
    website = held.world.workspaces["acme"].repositories["website"]
    names = {
        "users_permissions": "permissions_users", "groups_permissions": "permissions_groups",
        "pipelines_configuration": "pipelines_config", "ssh_key_pair": "key_pair", "webhooks": "hooks",
    }  # fmt: skip
    document = held.document(row.document)
    if row.name == "merge_strategies":
        assert document == {
            "name": "main", "merge_strategies": ["merge_commit", "squash", "fast_forward"],
            "default_merge_strategy": "merge_commit",
        }  # fmt: skip
        return
    if row.name == "forks":
        assert [one["full_name"] for one in document] == ["acme/fork"]
        return
    if row.name == "schedule_executions":
        assert document == website.schedule_executions
        return
    if row.name in website.tracker:
        assert [one["name"] for one in document] == website.tracker[row.name]
        return
    kept = website.settings[names.get(row.name, row.name)]
    if isinstance(kept, list):
        assert len(document) == len(kept)
        for one in kept:
            shown = canonical(held.render.repository_setting(one, website))
            assert shown in document
    else:
        assert document == canonical(held.render.repository_setting(kept, website))


WORKSPACE = [row for row in rows("settings", level="workspace") if row.document.startswith("settings/")]


@pytest.mark.parametrize("row", WORKSPACE, ids=lambda row: row.name)
def test_a_setting_of_a_workspace(held: Held, row: Row) -> None:
    acme = held.world.workspaces["acme"]
    document = held.document(row.document, of="workspace")
    if row.name in ("members", "roles"):
        assert {one["user"]["uuid"] for one in document if one["user"]} == {
            one.uuid for one in held.world.users.values() if not one.deleted
        }
        return
    if row.name == "system_gpg_key":
        assert document["size"] == len(SYSTEM_KEY)
        stored = held.workspace.file(document["sha256"])
        assert stored is not None
        with stored:
            assert stored.read().decode() == SYSTEM_KEY
        return
    names = {
        "workspace_webhooks": "hooks", "workspace_variables": "variables", "workspace_runners": "runners",
    }  # fmt: skip
    kept = acme.settings[names.get(row.name, row.name)]
    assert len(document) == len(kept)
    for one in kept:
        assert canonical(held.render.group_setting(one, acme, "")) in document


@pytest.mark.parametrize("row", rows(level="project"), ids=lambda row: row.name)
def test_a_setting_of_a_project(held: Held, row: Row) -> None:
    acme = held.world.workspaces["acme"]
    name = row.name.removeprefix("project_")
    kept_as = {"users_permissions": "permissions_users", "groups_permissions": "permissions_groups"}
    for key in acme.projects:
        document = held.document(f"projects/{key.lower()}.json", of="workspace")
        same(document["project"], held.render.full_project(acme, key))
        assert document["_parts"] == {}
        kept = acme.project_settings.get(key, {}).get(kept_as.get(name, name))
        if isinstance(kept, list):
            assert document[name] == [canonical(held.render.group_setting(one, acme, key)) for one in kept]
        elif kept is not None:
            assert document[name] == canonical(held.render.group_setting(kept, acme, key))


def test_snippets_with_files_comments_and_commits(held: Held) -> None:
    acme = held.world.workspaces["acme"]
    for snippet in acme.snippets.values():
        document = held.document(f"snippets/{snippet.id}.json", of="workspace")
        same(document["snippet"], held.render.snippet(snippet, "acme", listed=False))
        assert {name: one["size"] for name, one in document["files"].items()} == {
            name: len(content) for name, content in snippet.files.items()
        }
        assert [one["content"]["raw"] for one in document["comments"]] == [
            one.text for one in snippet.comments
        ]
        assert [one["hash"] for one in document["commits"]] == [snippet.commit]


def test_environments_deployments_and_downloads(held: Held) -> None:
    website = held.world.workspaces["acme"].repositories["website"]
    [environment] = website.settings["environments"]
    document = held.document(f"environments/{environment['uuid'].strip('{}')}.json")
    assert document["environment"] == canonical(environment)
    assert document["variables"] == canonical(website.environment_variables[environment["uuid"]])
    [deployment] = website.settings["deployments"]
    document = held.document(f"deployments/{deployment['uuid'].strip('{}')}.json")
    assert document["deployment"] == canonical(deployment)
    [download] = held.document("downloads.json")
    same(download, held.render.download(website.downloads[0], website))
    assert held.file(download["_content"]) == website.downloads[0].content


def test_pull_requests_with_all_that_belongs_to_them(held: Held) -> None:
    website = held.world.workspaces["acme"].repositories["website"]
    for pull in website.pull_requests.values():
        document = held.document(f"pull-requests/0/{pull.id}.json")
        same(document["pull_request"], held.render.pull_request(pull, listed=True))
        same(document["pull_request"], held.render.people(pull))
        assert document["comments"] == [canonical(held.render.comment(one, pull)) for one in pull.comments]
        assert document["tasks"] == [canonical(held.render.task(one, pull)) for one in pull.tasks]
        assert document["statuses"] == [canonical(held.render.status(one, pull)) for one in pull.statuses]
        shown = [canonical(held.render.activity(one, pull)) for one in pull.activity]
        assert len(document["activity"]) == len(shown)
        for one in shown:
            assert fields.activity(one).kept in document["activity"]


def test_issues_with_all_that_belongs_to_them(held: Held) -> None:
    website = held.world.workspaces["acme"].repositories["website"]
    for issue in website.issues.values():
        document = held.document(f"issues/0/{issue.id}.json")
        same(document["issue"], held.render.issue(issue))
        assert [one["content"]["raw"] for one in document["comments"]] == [one.text for one in issue.comments]
        assert document["changes"] == [
            canonical(held.render.issue_change(one, issue)) for one in issue.changes
        ]
        assert [held.file(one["_content"]) for one in document["attachments"]] == [
            one.content for one in issue.attachments
        ]


def test_pipelines_with_steps_logs_and_test_reports(held: Held) -> None:
    for name in ("website", "api"):
        repository = held.world.workspaces["acme"].repositories[name]
        with Store.open(held.website.root) as store:
            folder = store.repository(Selector.parse(f"acme/{name}"))
            latest = folder.metadata.latest()
            assert latest is not None
            for pipeline in repository.pipelines.values():
                document = folder.metadata.read(latest, f"pipelines/0/{pipeline.number}.json")
                assert document is not None
                assert document["pipeline"] == canonical(held.render.pipeline(pipeline))
                shown = [canonical(held.render.step(one, pipeline)) for one in pipeline.steps]
                assert document["steps"] == shown
                for step in pipeline.steps:
                    for service, content in step.services.items():
                        stored = document["logs"].get(step.service(service))
                        assert pipeline.result is None or stored["size"] == len(content or b"")
                    pointer = document["logs"].get(step.uuid)
                    if step.log is not None and pipeline.result not in (None, "STOPPED"):
                        assert pointer["size"] == len(step.log)
                    report = document["test_reports"].get(step.uuid)
                    if not step.tests:
                        assert report is None
                        continue
                    assert report["report"] == canonical(held.render.test_report(step))
                    assert {one["case"]["name"] for one in report["cases"]} == set(step.tests)
                    reasons = {one["case"]["name"]: one["reasons"] for one in report["cases"]}
                    for case, reason in step.tests.items():
                        told = [one["message"] for one in reasons[case] or []]
                        assert told == ([reason] if reason else [])


def test_what_is_said_about_commits(held: Held) -> None:
    website = held.world.workspaces["acme"].repositories["website"]
    [(commit, comments)] = website.commit_comments.items()
    document = held.document(f"commit-comments/{commit[:2]}/{commit}.json")
    assert document["comments"] == [
        canonical(held.render.commit_comment(one, website, commit)) for one in comments
    ]
    assert [one["user"]["uuid"] for one in document["participants"]] == [
        one.uuid for one in website.commit_approvals[commit]
    ]
    assert document["statuses"] == [
        canonical(held.render.commit_status(one, website, commit)) for one in website.commit_statuses[commit]
    ]
    [report] = website.reports[commit]
    [kept] = document["reports"]
    assert kept["report"] == canonical(held.render.report(report))
    assert kept["annotations"] == [
        canonical(held.render.annotation(report["date"], one)) for one in report["annotations"]
    ]


def test_every_kind_of_setting_may_be_agreed_to_be_missing() -> None:
    assert set(get_args(KindName)) == {row.accepted_as for row in CATALOGUE if row.part == "settings"}


def test_every_row_is_in_one_of_these_tests() -> None:
    elsewhere = {
        "profile", "repositories", "pull_requests", "issues", "pipelines", "pipeline_logs", "snippets",
        "downloads", "commit_comments",
    }  # fmt: skip
    special = {"environments", "environment_variables", "deployments", "projects"}
    for row in CATALOGUE:
        assert (
            row.part in elsewhere or row in SETTINGS or row in WORKSPACE or row.level == "project"
            or row.name in special
        ), row.kind  # fmt: skip
