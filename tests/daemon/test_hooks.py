"""From a push to its snapshot: the simulator sends hooks to a service, which backs up what they announce."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.auth.hook_keys import HookKeys, signature_of
from mirror.auth.secrets import Secret
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.simulator.writes.hooks import EVENTS
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.daemon.test_service import Service, Systemd
from tests.e2e.helpers import MADE, mirror, write_config

SECRET = "a secret of the hooks, long enough"


class Hooked(Service):
    """A service with a door, and the hook of the workspace that leads to it."""

    def __init__(self, folder: Path, simulator: Simulator, config: Path, systemd: Systemd) -> None:
        super().__init__(folder, simulator, config, systemd)
        self.acme = simulator.world.workspaces["acme"]
        with Store.open(folder / "store") as store:
            self.store_id = store.id

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log with this event."""
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(one) for one in whole.splitlines() if one.startswith("{")]
        return [one for one in lines if one["event"] == event]

    def begin(self) -> None:
        """Wait until the first backup has ended, and install the hook."""
        self.systemd.wait("READY=1")
        assert self.logged("daemon.backup_ended")
        self.install(SECRET)

    def install(self, secret: str) -> None:
        hook = {"uuid": "{f0}", "url": self.url(secret), "active": True, "events": list(EVENTS)}
        self.acme.settings["hooks"] = [hook]
        self.simulator.world.secrets["{f0}"] = secret

    def url(self, secret: str) -> str:
        address = self.lines("hooks.listening")[-1]["address"]
        return f"http://{address}{HookKeys(Secret(secret), None, self.store_id).path}"

    def latest(self, name: str) -> str | None:
        """The commit of the main branch in the last snapshot of a repository."""
        with Store.open(self.folder / "store") as store:
            for one in store.repositories():
                if one.slug == name and (latest := one.metadata.latest()) is not None:
                    known = one.metadata.code_refs(latest)
                    return None if known is None else known[0].refs.get(b"refs/heads/main")
        return None


@pytest.fixture
def hooked(tmp_path: Path, systemd: Systemd) -> Iterator[Hooked]:
    world = World(tmp_path / "upstream")
    world.add_user("Ann Archer", "ann@acme.example")
    acme = world.add_workspace("acme", "Acme")
    for name in ("website", "shop"):
        acme.add_repository(name).commit("main", {"a.txt": b"0\n"}, "Begin\n")
    token = world.add_workspace_access_token("acme", SCOPES)
    secret = tmp_path / "hooks.secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    with Simulator(world) as simulator:
        more = (
            "schedule: {backup: every 4h}\n"
            f"hooks: {{url: 'http://127.0.0.1', secret: {{file: {secret}}}, listen: '127.0.0.1:0'}}\n"
        )
        config = write_config(tmp_path, simulator, token, more=more)
        create_or_open(tmp_path / "store", now=MADE).close()
        running = Hooked(tmp_path, simulator, config, systemd)
        yield running
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    yield made
    made.close()


def test_a_push_is_in_a_snapshot_soon_and_in_the_record_at_the_end(hooked: Hooked) -> None:
    hooked.begin()
    pushed = hooked.acme.repositories["website"].commit("main", {"a.txt": b"1\n"}, "One\n")
    hooked.wait_for(lambda: hooked.latest("website") == pushed)
    new = hooked.acme.add_repository("new")
    begun = new.commit("main", {"a.txt": b"0\n"}, "Begin\n")
    hooked.wait_for(lambda: hooked.latest("new") == begun)
    assert len(hooked.lines("daemon.backup_ended")) == 1  # the schedule did not
    assert hooked.stop() == 0
    assert '"level": "error"' not in hooked.log.read_text()
    with Store.open(hooked.folder / "store") as store:
        first, last = [one.data for one in store.runs("backup")]
        assert last["facts"]["announced"] is True
        names = {one["full_name"]: one["outcome"] for one in last["entries"]}
        assert names == {"acme/website": "saved", "acme/new": "saved"}
        assert store.history().began["backup"] == first["started"]


def test_a_reload_replaces_the_secret(hooked: Hooked) -> None:
    hooked.begin()
    other = "another secret of the hooks, also long"
    (hooked.folder / "hooks.secret").write_text(other)
    hooked.process.send_signal(signal.SIGHUP)
    assert hooked.logged("daemon.reloaded")
    pushed = hooked.acme.repositories["shop"].commit("main", {"a.txt": b"1\n"}, "One\n")
    hooked.simulator.hooks.settle()
    assert hooked.simulator.deliveries[-1].statuses in ([404], [None] * 3, [None])
    hooked.install(other)
    answer = httpx.post(
        hooked.url(other), content=b"{}", headers={"X-Hub-Signature": signature_of(Secret(other), b"{}")},
        timeout=60, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 204
    assert hooked.latest("shop") != pushed
    pushed = hooked.acme.repositories["shop"].commit("main", {"a.txt": b"2\n"}, "Two\n")
    hooked.wait_for(lambda: hooked.latest("shop") == pushed)
    assert hooked.stop() == 0


def test_a_visit_that_is_stopped_is_quiet_and_the_next_start_makes_up_for_it(hooked: Hooked) -> None:
    hooked.begin()
    hooked.simulator.order(Fault("POST /acme/website.git/*", "slow", seconds=600, times=5))
    pushed = hooked.acme.repositories["website"].commit("main", {"a.txt": b"1\n"}, "One\n")
    hooked.wait_for(lambda: hooked.simulator.faults._standing[0].met > 0)
    assert hooked.stop() == 0
    log = hooked.log.read_text()
    assert "Traceback" not in log and '"level": "error"' not in log
    assert hooked.latest("website") != pushed
    hooked.simulator.faults.clear()
    done = mirror("backup", "-c", str(hooked.config))
    assert done.returncode == 0
    assert hooked.latest("website") == pushed
