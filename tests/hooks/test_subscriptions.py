"""Webhooks of a workspace on the simulator: made, compared, removed, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import hooks
from mirror.auth.hook_keys import HookKeys
from mirror.auth.secrets import Secret
from mirror.bitbucket.client.budget import Budget
from mirror.config import address, load
from mirror.doctor.checks import Report
from mirror.errors import UsageError
from mirror.model import Run
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import open_store
from mirror.web import serving
from mirror.web.hooks_door import HooksDoor
from tests.clock import FakeClock
from tests.e2e.helpers import MADE, write_config
from tests.simulator.receiver import Receiver, receiver

SECRET, OLDER = "the-secret-of-these-hooks-0123456789", "an-older-secret-of-the-hooks-0123456"
FOREIGN = {"uuid": "{aa}", "url": "https://ci.acme.example/hook", "events": ["repo:push"], "active": True}
SCOPES = {"webhook", "repository", "pullrequest", "issue", "account"}


class Site:
    """A workspace on the simulator, and a configuration with hooks."""

    def __init__(self, folder: Path, simulator: Simulator, got: Receiver, token: str) -> None:
        self.folder, self.simulator, self.got, self.world = folder, simulator, got, simulator.world
        self.path = write_config(folder, simulator, token)
        self.settings = self.world.workspaces["acme"].settings
        self.settings["hooks"] = [dict(FOREIGN)]
        self.url, self.secret, self.previous = got.url, SECRET, ""

    def _environment(self) -> dict[str, str]:
        return {"HOOKS": self.secret, "BEFORE": self.previous}

    async def run(self, name: str, **more: Any) -> Report:
        """`hooks install`, `check` or `remove`."""
        section = f"listen: '127.0.0.1:9322', url: '{self.url}', secret: {{env: HOOKS}}"
        section += ", previous_secret: {env: BEFORE}" if self.previous else ""
        self.path.write_text(self.path.read_text().partition("hooks:")[0] + f"hooks: {{{section}}}\n")
        work = getattr(hooks, name)
        clock = FakeClock()
        report: Report = await work(
            load(self.path), clock=clock, environment=self._environment(),
            budget=Budget(clock, patience=10), **more,
        )  # fmt: skip
        return report

    @property
    def ours(self) -> list[dict[str, Any]]:
        """The hooks that are not foreign."""
        return [one for one in self.settings["hooks"] if one["uuid"] != FOREIGN["uuid"]]

    def address(self, secret: str) -> str:
        """The address of the hooks with this secret."""
        return self.url + HookKeys(Secret(secret), None, self.store_id).path

    @property
    def store_id(self) -> str:
        """The id of the store."""
        with Store.open(self.folder / "store") as store:
            return store.id


@contextmanager
def site(folder: Path, *, scopes: set[str] | None = None, **switches: bool) -> Iterator[Site]:
    world = World(folder / "upstream")
    world.add_workspace("acme").add_repository("website")
    token = world.add_workspace_access_token("acme", scopes or SCOPES)
    with receiver() as got, Simulator(world, switches=Switches(**switches)) as simulator:
        yield Site(folder, simulator, got, token)


def texts(report: Report) -> list[str]:
    return [f"{one.state} {one.name}: {one.text}" for one in report.checks]


async def test_install_makes_one_and_makes_no_second(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        report = await place.run("install")
        assert report.exit_code == 0, texts(report)
        [hook] = place.ours
        assert hook["url"] == place.address(SECRET)
        assert hook["active"] is True
        assert hook["description"].startswith("Mirror backup, store ")
        assert place.world.secrets[hook["uuid"]] == SECRET
        assert {"repo:push", "pullrequest:updated", "issue:created"} <= set(hook["events"])
        again = await place.run("install")
        assert [one["uuid"] for one in place.ours] == [hook["uuid"]]
        assert "was right" in texts(again)[-1]
        assert place.settings["hooks"][0] == FOREIGN


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        report = await place.run("install", dry_run=True)
        assert "would be made" in texts(report)[-1]
        assert place.ours == []
        await place.run("install")
        place.ours[0]["active"] = False
        report = await place.run("install", dry_run=True)
        assert "would be set right (it is inactive)" in texts(report)[-1]
        report = await place.run("remove", dry_run=True)
        assert "would be removed" in texts(report)[-1]
        assert [one["active"] for one in place.ours] == [False]
        assert {one.method for one in place.simulator.requests} == {"GET", "POST"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"active": False}, "inactive"),
        ({"events": ["repo:push"]}, "does not announce pullrequest:approved"),
        ({"secret_set": False}, "no secret"),
    ],
)
async def test_what_somebody_changed_is_told_and_set_right(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        place.ours[0].update(change)
        report = await place.run("check")
        assert report.exit_code == 1
        assert any(words in one for one in texts(report))
        assert (await place.run("install")).exit_code == 0
        assert not any("fail acme" in one for one in texts(await place.run("check")))


async def test_a_missing_one_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        report = await place.run("check")
        assert report.exit_code == 1
        assert any("missing" in one for one in texts(report))


async def test_a_new_secret_moves_the_hook_to_its_address(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        place.secret, place.previous = OLDER, SECRET
        report = await place.run("check")
        assert any("that of hooks.previous_secret" in one for one in texts(report))
        place.previous = ""
        report = await place.run("check")
        assert any("an older secret" in one for one in texts(report))
        await place.run("install")
        [hook] = place.ours
        assert hook["url"] == place.address(OLDER)
        assert place.world.secrets[hook["uuid"]] == OLDER


async def test_several_become_one(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        first = place.ours[0]
        place.settings["hooks"].append(
            {**first, "uuid": "{bb}", "url": place.address(OLDER), "events": ["repo:push"]}
        )
        assert any("a second one" in one for one in texts(await place.run("check")))
        await place.run("install")
        assert [one["uuid"] for one in place.ours] == [first["uuid"]]


async def test_remove_leaves_those_of_others(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        others = [
            FOREIGN,
            {
                **FOREIGN,
                "uuid": "{cc}",
                "url": f"{place.url}/hooks/{'0' * 32}",
                "description": "Another store",
            },
            {**FOREIGN, "uuid": "{dd}", "url": f"{place.url}/other", "description": "Mirror backup"},
        ]
        place.settings["hooks"] = [*others, *place.ours]
        report = await place.run("remove")
        assert report.exit_code == 0
        assert place.settings["hooks"] == others
        assert "none of ours" in texts(await place.run("remove"))[-1]


async def test_events_of_issues_may_be_refused(tmp_path: Path) -> None:
    for name, scopes, switches in (
        ("switch", SCOPES, {"issue_events_refused": True}),
        ("scope", SCOPES - {"issue"}, {}),
    ):
        (tmp_path / name).mkdir()
        with site(tmp_path / name, scopes=scopes, **switches) as place:
            report = await place.run("install")
            assert "without those of issues" in texts(report)[-1]
            assert any("but not issues" in one for one in texts(await place.run("check")))


async def test_a_missing_scope_is_named(tmp_path: Path) -> None:
    for name, scopes, wanted in (
        ("webhook", {"account", "repository"}, "webhook"),
        ("event", {"account", "webhook", "repository"}, "pullrequest"),
    ):
        (tmp_path / name).mkdir()
        with site(tmp_path / name, scopes=scopes) as place:
            report = await place.run("install")
            assert report.exit_code == 3
            assert f"the scope {wanted}" in (report.checks[-1].remedy or "")


async def test_an_outage_is_told_as_one(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        place.simulator.order(Fault("GET */hooks", status=503, times=100))
        assert (await place.run("check")).exit_code == 1  # the door fails as well
        assert (await place.run("install")).exit_code == 75
        place.simulator.faults.clear()
        place.simulator.order(Fault("GET */hooks", status=401, times=100))
        assert (await place.run("remove")).exit_code == 3


async def test_what_may_have_been_made_is_looked_for(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        place.simulator.order(Fault("POST */hooks", kind="truncate"))
        report = await place.run("install")
        assert report.exit_code == 0, texts(report)
        assert len(place.ours) == 1


async def test_the_door_takes_what_is_signed_and_refuses_the_rest(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        for statuses, ending in (
            ([204, 403], "ok door: 127.0.0.1 takes what we sign, and refuses the rest"),
            ([204, 200], "does not refuse a ping that nobody signed (200): it is not our door"),
            ([404], "answered 404 to a ping that we signed"),
        ):
            place.got.received.clear()
            place.got.statuses = list(statuses)
            report = await place.run("check")
            assert texts(report)[-1].endswith(ending)
            signed = [one for one in place.got.received if "x-hub-signature" in one.headers]
            assert len(signed) == 1
        place.url = "http://127.0.0.1:1"
        assert "no answer from 127.0.0.1" in texts(await place.run("check"))[-1]


async def test_how_true_they_proved_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        await place.run("install")
        assert "ok acme: announced: no backup of the daemon has judged" in texts(await place.run("check"))[2]
        for changes, state in ((1, "warn"), (0, "ok")):
            facts = {"unannounced_changes": changes, "unannounced_total": 4}
            with open_store(tmp_path / "store", command="tests") as store:
                uuid = place.world.workspaces["acme"].uuid
                name = f"20261123t02000{changes}z-000000"
                store.write_run(Run(name, "backup", MADE, MADE, "tests", facts={"hooks": {uuid: facts}}))
            told = texts(await place.run("check"))[2]
            assert told.startswith(f"{state} acme: announced: the last backup found {changes} change")
            assert told.endswith("that no webhook announced; 4 in all")


class Heard:
    """What the door hands over."""

    def __init__(self) -> None:
        self.announced: list[str | None] = []
        self.refused = 0

    def announce(self, uuid: str | None, event: bytes) -> None:
        assert event
        self.announced.append(uuid)

    def refuse(self) -> None:
        self.refused += 1


async def test_the_daemons_own_door_passes_the_check(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        heard = Heard()
        keys = HookKeys(Secret(SECRET), None, place.store_id)
        door = HooksDoor(keys, heard, FakeClock())
        async with serving(door, address("127.0.0.1:0"), key="hooks.listen") as there:
            place.url = f"http://{there.text}"
            await place.run("install")
            assert (await place.run("check")).exit_code == 0
            place.secret = OLDER
            assert "answered 404 to a ping that we signed" in texts(await place.run("check"))[-1]
        # A ping announces nothing.
        assert (heard.announced, heard.refused) == ([None], 2)


async def test_a_private_address_is_warned_of(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        assert any(one.startswith("warn address: 127.0.0.1") for one in texts(await place.run("install")))


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("mirror.example.org", True), ("8.8.8.8", True), ("10.0.0.1", False), ("localhost", False),
        ("mirror.local", False), ("mirror", False), ("::1", False), ("192.168.1.2", False),
    ],
)  # fmt: skip
def test_which_hosts_are_public(host: str, public: bool) -> None:
    from mirror.hooks.address import is_public

    assert is_public(host) is public


async def test_without_hooks_and_with_bad_secrets(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        config, clock = replace(load(place.path), hooks=None), FakeClock()
        with pytest.raises(UsageError, match="no section hooks"):
            await hooks.check(config, clock=clock, environment={}, budget=Budget(clock))
        place.secret = "short"
        with pytest.raises(UsageError, match=r"hooks\.secret"):
            await place.run("install")
        place.secret, place.previous = SECRET, "short"
        with pytest.raises(UsageError, match=r"hooks\.previous_secret"):
            await place.run("install")


async def test_no_text_has_the_secret(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        for name in ("install", "check", "remove"):
            shown = str((await place.run(name)).to_json())
            assert SECRET not in shown
            assert place.address(SECRET) not in shown
