"""Settings come back through the whole restore: whatever Bitbucket does where nobody is sure."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.config import load
from mirror.model import Json
from mirror.restore import secrets
from mirror.restore.carry.api import BitbucketApi, Request
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options
from mirror.restore.plan.steps import Why
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.discussions import Comment
from mirror.simulator.world.people import braced
from mirror.simulator.world.sample import populate
from mirror.simulator.world.settings import branch_restriction, group_permission, hook
from mirror.simulator.writes.routes import WRITES
from tests.e2e.helpers import write_config
from tests.place import Killed, Place
from tests.restore.carry.target import Upstream, upstream
from tests.simulator.helpers import EVERYTHING

SURE = Switches()
UNSURE = replace(
    SURE, environments_come_with_pipelines=True, pipelines_settings_need_pipelines=True,
    unknown_fields_refused=True, empty_puts_refused=True, branching_model_stops_inheriting=True,
    hook_events_need_scopes=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all settings of the sample's website: a user's token reads permissions and snippets."""
    folder = tmp_path_factory.mktemp("whole")
    world = World(folder / "upstream")
    populate(world)
    acme = world.workspaces["acme"]
    for slug in ("api", "billing", "handbook"):
        acme.delete_repository(slug)
    acme.settings["repository_permissions"] = []
    settings = acme.repositories["website"].settings
    gone = {"type": "group", "name": "Gone", "slug": "gone", "full_slug": "acme:gone"}
    developers = {**gone, "name": "Developers", "slug": "developers"}
    settings["permissions_groups"].append(group_permission("gone", "read", "repository"))
    settings["branch_restrictions"][0]["groups"] = [developers, gone]
    settings["branch_restrictions"].append(branch_restriction(3, "delete", "*"))
    # Of another type than the one that Bitbucket makes of this name, where it makes any.
    test = {"name": "Test", "uuid": braced("test"), "rank": 7}
    settings["environments"].append({**settings["environments"][0], **test})
    [schedule] = settings["schedules"]
    settings["schedules"].append({**schedule, "uuid": braced("hourly"), "cron_pattern": "0 0 * * * ? *"})
    [twin] = acme.settings["hooks"]
    acme.settings["hooks"] = [twin, {**twin, "uuid": braced("twin")}]
    ann = world.users["ann@acme.example"]
    for word in ("one", "other"):
        snippet = acme.add_snippet("Twins", {f"{word}.txt": word.encode()}, author=ann)
        snippet.comments.append(Comment(world.number(), f"The {word}.", ann, world.now()))
    events = ["repo:push", "issue:created"]
    settings["hooks"].append({**hook("https://issues.acme.example/", "x"), "events": events})
    token = world.add_api_token(world.users["ann@acme.example"], EVERYTHING)
    with Simulator(world) as simulator:
        path = write_config(folder, simulator, token)
        text = path.read_text().replace("workspace_access_token", "api_token, email: ann@acme.example")
        path.write_text(text)
        asyncio.run(Place(folder, simulator, load(path)).run())
    return folder / "store"


async def _options(target: Upstream, store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """With every secret that the plan lists."""
    planned = await target.restore(store, dry_run=True)
    assert isinstance(planned, Planned)
    monkeypatch.setenv("GIVEN", "hunter2")
    path = target.folder / "secrets.yaml"
    path.write_text("".join(f"'{key}': {{env: GIVEN}}\n" for key in secrets.secret_keys(planned.plan)))
    given = secrets.load(path)
    assert len(given.keys) == 5
    return {"options": Options(activate_hooks=True, secrets=given.keys), "secrets": given}


def _report(found: object) -> Report:
    assert isinstance(found, Report)
    return found


@pytest.mark.parametrize("switches", [SURE, UNSURE], ids=["sure", "unsure"])
async def test_settings_come_back_once(
    tmp_path: Path, whole: Path, switches: Switches, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream(tmp_path, switches) as target:
        more = await _options(target, whole, monkeypatch)
        report = _report(await target.restore(whole, **more))
        # The group that is not there is told, and costs nothing else.
        [lost] = [one for one in report.entries if one.outcome is Outcome.LOST]
        assert "Gone" in lost.label or "gone" in lost.label
        assert [one.why for one in report.losses if one.key == lost.key] == [Why.PERSON]
        assert report.exit_code == 0, [one for one in report.entries if one.outcome is Outcome.REFUSED]

        if switches is UNSURE:
            [told] = [one.message for one in report.entries if one.key == "website/environments/Test"]
            assert told == "another value of environment_type.name stays"
        settings = target.workspace.repositories["website"].settings
        restriction = settings["branch_restrictions"][0]
        assert [one["slug"] for one in restriction["groups"]] == ["developers"] and restriction["users"]
        ranks = {one["name"]: one["rank"] for one in settings["environments"]}
        assert ranks["Production"] == 0 and ranks["Test"] == 7
        assert [one["enabled"] for one in settings["schedules"]] == [True, True]
        assert settings["pipelines_config"]["enabled"] and len(settings["hooks"]) == 2
        assert set(target.simulator.world.secrets.values()) == {"hunter2"}
        # Two of one name are two things, and each has its own comments.
        assert len(target.workspace.settings["hooks"]) == 2
        twins = [one for one in target.workspace.snippets.values() if one.title == "Twins"]
        assert [
            (list(one.files), [comment.text.rpartition("The ")[2] for comment in one.comments])
            for one in twins
        ] == [(["one.txt"], ["one."]), (["other.txt"], ["other."])]
        # Pipelines are off while pull requests are opened: none may start a build.
        words = ("pipelines_config", "pullrequests", "hooks")
        sent = [path.rsplit("/")[-1] for method, path in target.requests if method in ("POST", "PUT")]
        order = [one for one in sent if one in words]
        assert order[:3] == ["pipelines_config", "pipelines_config", "pullrequests"]
        assert order[-1] == "pipelines_config" and order.index("hooks") > order.index("pullrequests")

        again = _report(await target.restore(whole, **more))
        made = [one for one in again.entries if one.outcome in (Outcome.MADE, Outcome.CHANGED)]
        differing = [one.kind for one in again.entries if one.outcome is Outcome.DIFFERS]
        # The restriction lacks the group, and may not be changed.
        assert made == []
        assert differing == [*(["environments"] if switches is UNSURE else []), "branch restrictions"]


async def test_each_refusal_costs_its_own(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream(tmp_path, replace(SURE, issue_events_refused=True)) as target:
        target.simulator.world.sizes["schedules"] = 1
        target.workspace.seats = 0
        target.workspace.groups.clear()
        more = await _options(target, whole, monkeypatch)
        report = _report(await target.restore(whole, **more))
        refused = {one.kind: one.status for one in report.entries if one.outcome is Outcome.REFUSED}
        # A 401 for one schedule too many is no refusal of the credential.
        assert refused.pop("schedules") == 401 and refused.pop("users' permissions") == 402
        assert report.exit_code == 3 and report.stopped is None
        settings = target.workspace.repositories["website"].settings
        assert len(settings["schedules"]) == 1 and len(settings["variables"]) == 2
        assert [one["events"] for one in settings["hooks"]][1] == ["repo:push"]
        assert settings["branch_restrictions"][0]["groups"] == []


async def test_access_tokens_bring_what_they_may(tmp_path: Path, whole: Path) -> None:
    with upstream(tmp_path, SURE) as target:
        scopes = {scope for route in WRITES for scope in route.scopes if "snippet" not in scope}
        report = _report(await target.restore(whole, credentials=(target.token(*scopes, "account"),)))
        refused = {one.kind for one in report.entries if one.outcome is Outcome.REFUSED}
        assert refused == {
            "deploy keys", "project deploy keys", "users' permissions", "groups' permissions",
            "project users' permissions", "project groups' permissions", "snippets",
        }  # fmt: skip
        assert report.exit_code == 3 and report.stopped is None


async def test_a_secret_that_an_earlier_run_has_set_is_not_asked_for_again(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is given the secrets and is refused a webhook; the second goes on without them."""
    with upstream(tmp_path, SURE) as target:
        more = await _options(target, whole, monkeypatch)
        hooks = Fault("POST /2.0/repositories/spare/website/hooks", status=403, times=9)
        target.simulator.order(hooks)
        assert _report(await target.restore(whole, **more)).exit_code != 0
        again = _report(await target.restore(whole))
        owed = {loss.key for loss in again.losses if loss.why is Why.SECRET}
        assert owed and all("/webhooks/" in key for key in owed)


async def test_secrets_are_renewed_where_that_is_asked_for(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream(tmp_path, SURE) as target:
        target.workspace.groups["gone"] = "Gone"
        more = await _options(target, whole, monkeypatch)
        await target.restore(whole, **more)
        monkeypatch.setenv("GIVEN", "hunter3")
        await target.restore(whole, **more)
        secrets_there = target.simulator.world.secrets
        assert set(secrets_there.values()) == {"hunter2"}
        report = _report(
            await target.restore(whole, **{**more, "options": replace(more["options"], overwrite=True)})
        )
        assert set(secrets_there.values()) == {"hunter3"} and report.exit_code == 0
        changed = {one.kind for one in report.entries if one.outcome is Outcome.CHANGED}
        assert changed == {"variables", "webhooks", "workspace webhooks", "pipelines configuration"}
        assert target.workspace.repositories["website"].pipelines_enabled


async def test_what_was_about_to_be_set_is_set(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the journal was written and before the request was sent: what is there is not it."""
    send = BitbucketApi.send
    last: list[str] = []

    async def killed(api: BitbucketApi, request: Request) -> Json:
        if request.endpoint.name == last[0]:
            raise Killed
        return await send(api, request)

    with upstream(tmp_path, UNSURE) as target:
        target.workspace.groups["gone"] = "Gone"
        more = await _options(target, whole, monkeypatch)
        for name in ("branching model settings", "override settings", "environments"):
            last[:] = [name]
            with monkeypatch.context() as patch:
                patch.setattr(BitbucketApi, "send", killed)
                with pytest.raises(BaseExceptionGroup):
                    await target.restore(whole, **more)
        report = _report(await target.restore(whole, **more))
        assert report.exit_code == 0, [one for one in report.entries if one.outcome is Outcome.REFUSED]
        settings = target.workspace.repositories["website"].settings
        assert settings["override_settings"]["override_settings"]["default_merge_strategy"] is False
        assert settings["branching_model_settings"]["branch_types"]
        ranks = {one["name"]: one["rank"] for one in settings["environments"]}
        assert ranks["Production"] == 0 and ranks["Test"] == 7
