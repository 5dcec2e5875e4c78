"""Commands by hand and the daemon tell people, as the configuration says."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mirror.config import load
from mirror.daemon.jobs import KINDS
from mirror.daemon.service import _Service
from mirror.errors import NoStore
from mirror.model import Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.clock import FakeClock
from tests.e2e.helpers import mirror, write_config
from tests.notify.servers import CHECK, Healthchecks, Receiver, smtp_server

MORE = """\
schedule: {backup: every 4h}
notify: {urls: [{file: mail}, {file: hook}]}
ping: {url: {file: ping}}
"""


def write_secret(folder: Path, name: str, text: str) -> None:
    secret = folder / name
    secret.touch(mode=0o600)
    secret.write_text(text)


def test_a_backup_by_hand_tells_its_failure_and_its_recovery(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with (
        Simulator(world) as simulator,
        smtp_server() as (box, mailto),
        Receiver() as hook,
        Healthchecks() as checks,
    ):
        config = write_config(tmp_path, simulator, "ATCT-wrong-token", more=MORE)
        write_secret(tmp_path, "mail", mailto)
        write_secret(tmp_path, "hook", f"json://127.0.0.1:{hook.port}/h00k-s3cret")
        write_secret(tmp_path, "ping", checks.url)
        refused = mirror("backup", "-c", str(config), "-v")
        assert refused.returncode == 12, refused.stderr
        config_text = f"mirror status --store {tmp_path / 'store'}"
        assert "refused the credential" in box.text() and config_text in box.text()
        write_secret(tmp_path, "token", token)
        good = mirror("backup", "-c", str(config), "-v")
        assert good.returncode == 0, good.stderr
        titles = [json.loads(body)["title"].partition(": ")[2] for _, body in hook.got]
        assert titles == ["backup failed", "backup is well again"]
        assert [str(mail["Subject"]).partition(": ")[2] for mail in box.mails] == titles
        assert checks.signals == ["start", "fail", "start", ""]
        for done in (refused, good):
            told = done.stdout + done.stderr
            assert "s3cret" not in told and CHECK not in told and mailto not in told
        assert list((tmp_path / "store" / "cache").glob("notices-*")) == []


def test_a_missing_store_is_told_and_another_store_is_not(tmp_path: Path) -> None:
    with Receiver() as hook:
        write_secret(tmp_path, "hook", f"json://127.0.0.1:{hook.port}/")
        config = tmp_path / "config.yaml"
        config.write_text(
            "store: store\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
            "notify: {urls: [{file: hook}]}\n"
        )
        assert mirror("backup", "-c", str(config)).returncode == 10
        mirror("verify", "-c", str(config), "--store", str(tmp_path / "copy"))  # not the configured store
        titles = [json.loads(body)["title"].partition(": ")[2] for _, body in hook.got]
        assert titles == ["backup failed"]
        assert not (tmp_path / "store").exists()


@pytest.fixture
def service(tmp_path: Path) -> _Service:
    config = tmp_path / "config.yaml"
    config.write_text("store: store\ncredential: {kind: workspace_access_token, token: {env: T}}\n" + MORE)
    (tmp_path / "store").mkdir()
    return _Service(load(config), lambda: load(config), FakeClock(), {"PATH": os.environ["PATH"]})


async def test_the_daemon_goes_on_while_servers_hang(
    service: _Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    async def work(*_: object) -> Run:
        nonlocal runs
        runs += 1
        raise NoStore("the disk is not mounted")

    monkeypatch.setitem(KINDS, "backup", replace(KINDS["backup"], work=work))
    monkeypatch.setattr("mirror.daemon.service.NOTICES_STOP_SECONDS", 0.5)
    with Receiver(is_slow=True) as hook, Healthchecks(is_slow=True) as checks:
        write_secret(tmp_path, "mail", f"json://127.0.0.1:{hook.port}/")
        write_secret(tmp_path, "hook", f"json://127.0.0.1:{hook.port}/")
        write_secret(tmp_path, "ping", checks.url)
        for _ in range(3):
            await service.runner.run("backup")
        assert runs == 3
        async with asyncio.timeout(120):
            while "start" not in checks.signals:
                await asyncio.sleep(0.01)
        assert service.notices._tasks, "nobody waited for the servers"
        with capture_logs() as logs:
            await service.end()
        # It gives up what is being sent; who waits for the servers logs what they failed to take.
        assert not [one for one in logs if one["event"].startswith("notify.")]


async def test_the_daemon_tells_what_is_overdue(service: _Service, tmp_path: Path) -> None:
    with Receiver() as hook:
        for name in ("mail", "hook"):
            write_secret(tmp_path, name, f"json://127.0.0.1:{hook.port}/")
        assert isinstance(service._clock, FakeClock)
        service._clock.elapsed += 8 * 3600 + 1
        service.look()
        service.look()
        await service.notices.finish()
        assert [json.loads(body)["message"].splitlines()[0] for _, body in hook.got] == 2 * [
            "- backup is overdue: none has ended since 2026-11-23T02:00:00Z"
        ]
