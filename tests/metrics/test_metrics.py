"""The textfile says what the store's status says; rules and dashboard name only what it has."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import structlog
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mirror.browse import figures as room
from mirror.browse.copied import CopyStatus
from mirror.browse.figures import figures
from mirror.browse.status import RepositoryStatus, Status, WorkspaceStatus, status
from mirror.config import Config, load_text
from mirror.daemon.jobs import KINDS
from mirror.daemon.service import _Service
from mirror.errors import Locked
from mirror.metrics import textfile
from mirror.metrics.definitions import BACKUP_GOOD, METRICS, STORE_METRICS, Sample
from mirror.model import Problem, Run
from mirror.store.reading.troubles import FailureStreak
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.e2e.helpers import MADE, mirror

DEPLOY = Path(__file__).parents[2] / "deploy"
AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SNAPSHOT = "20261123T020000Z"
RUN = {"run": "r", "started": "2026-11-23T02:00:00Z", "ended": "2026-11-23T02:10:00Z", "exit_code": 3}


def repository(name: str, **more: object) -> RepositoryStatus:
    made = RepositoryStatus(name, "f", "saved", SNAPSHOT, SNAPSHOT, AT, 3, 1000)
    return replace(made, **more)  # type: ignore[arg-type]


STATUS = Status(
    "/store",
    (
        repository("acme/website"),
        repository("acme/first", last_confirmed=None, last_complete=None, is_first_export=True),
    repository("acme/never", last_confirmed=None, missing={"issues": "denied"}),
        repository('acme/a"b\\c', failing=FailureStreak(4, "2026-11-20T02:00:00Z", "x")),
        repository("acme/same", snapshots=7),
        repository("acme/same", snapshots=99, is_settled=True),
    ),
    RUN, AT, None,
    workspaces=(WorkspaceStatus("acme", "s", {}, {}, AT),),
    losses=("a", "b"),
    jobs={"backup": RUN, "drill": {**RUN, "exit_code": 4}},
    good={"backup": AT},
    copies=(
        CopyStatus("s3://one/acme", {**RUN, "facts": {"bytes": 9, "requests": 4}}, AT, "r", 7, 2,
                   check={**RUN, "exit_code": 4, "facts": {"faults": 3}}),
        CopyStatus("s3://old/acme", {**RUN, "exit_code": 12, "facts": {}}, AT, "r", 7, 7),
    ),
    folders=7,
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    text = (
        "store: store\ncredential: {kind: api_token, email: a@x.org, token: {env: T}, expires: 2026-12-31}\n"
        "web: {textfile: mirror.prom}\ncopies: [{to: 's3://one/acme'}, {to: 's3://never/acme'}]\n"
    )
    return load_text(text, "config.yaml", folder=tmp_path)


def read(text: str) -> dict[tuple[str, ...], float]:
    """Every sample, by name and values of its labels: the workspace before the repository."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items(), reverse=True))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_textfile_says_what_the_status_says(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "status", lambda _: STATUS)
    config.store.mkdir()
    path = tmp_path / "mirror.prom"
    textfile.update(path, lambda: figures(config.store, config))
    found = read(path.read_text())
    complete = "mirror_repository_complete_timestamp_seconds"
    assert found[complete, "acme", "website"] == AT.timestamp()
    assert found[complete, "acme", "never"] == 0
    counted = "mirror_repository_counted_from_timestamp_seconds"
    assert found[counted, "acme", "website"] == AT.timestamp()
    assert found[counted, "acme", "never"] == 0
    assert found[counted, "acme", "first"] == AT.timestamp()
    assert found["mirror_repository_missing_parts", "acme", "never"] == 1
    assert found["mirror_repository_failed_runs", "acme", 'a"b\\c'] == 4
    assert found["mirror_repository_snapshots", "acme", "same"] == 7  # not those of the one that is gone
    assert found["mirror_run_exit_code", "", "backup"] == 3
    assert found["mirror_run_duration_seconds", "", "backup"] == 600
    assert found["mirror_run_exit_code", "", "drill"] == 4
    assert ("mirror_run_exit_code", "", "verify") not in found
    assert found["mirror_copy_success_timestamp_seconds", "s3://one/acme"] == AT.timestamp()
    assert found["mirror_copy_exit_code", "s3://one/acme"] == 3
    assert found["mirror_copy_folders_behind", "s3://one/acme"] == 2
    assert found["mirror_copy_sent_bytes", "s3://one/acme"] == 9
    assert found["mirror_copy_requests", "s3://one/acme"] == 4
    assert found["mirror_copy_check_timestamp_seconds", "s3://one/acme"] == AT.timestamp() + 600
    assert found["mirror_copy_check_faults", "s3://one/acme"] == 3
    assert found["mirror_copy_check_timestamp_seconds", "s3://never/acme"] == 0
    assert ("mirror_copy_check_faults", "s3://never/acme") not in found
    # One that was never made says so, and what it sent is unknown. One that is configured no more is over.
    assert found["mirror_copy_success_timestamp_seconds", "s3://never/acme"] == 0
    assert found["mirror_copy_folders_behind", "s3://never/acme"] == 7
    assert ("mirror_copy_sent_bytes", "s3://never/acme") not in found
    assert not any("s3://old/acme" in labels for labels in found)
    assert found[("mirror_brake_losses",)] == 2
    expires = datetime.combine(date(2026, 12, 31), datetime.min.time(), UTC).timestamp()
    assert found["mirror_credential_expiry_timestamp_seconds", "credential"] == expires
    assert {name for name, *_ in found} == {one.name for one in STORE_METRICS}
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_run_of_one_workspace_says_nothing_about_the_others(tmp_path: Path) -> None:
    text = (
        "store: store\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
        "workspaces: [{workspace: beta}, {workspace: acme, schedule: {backup: every 1h}}]\n"
    )
    config = load_text(text, "config.yaml", folder=tmp_path)

    def found(*runs: tuple[int, int, dict[str, object]]) -> dict[tuple[str, ...], float]:
        with create_or_open(config.store, now=MADE) as store:
            for hour, code, facts in runs:
                at = AT.replace(hour=hour)
                problems = (Problem(code, "failed"),) if code else ()
                run = Run(store.new_run_id(at), "backup", at, at, "test", problems=problems, facts=facts)
                store.write_run(run)
        return {(one.metric.name, *one.labels): one.value for one in figures(config.store, config)}

    code, good = "mirror_run_exit_code", ("mirror_backup_success_timestamp_seconds",)
    first = found((1, 0, {"but": ["acme"]}))
    assert first[code, "backup", ""] == 0 and (code, "backup", "acme") not in first
    assert first[good] == 0  # unknown for acme
    second = found((2, 1, {"only": "acme"}), (3, 0, {"selectors": ["beta/website"]}))
    assert (second[code, "backup", ""], second[code, "backup", "acme"]) == (0, 1)
    assert second[good] == 0
    third = found((4, 0, {"only": "acme"}))
    assert third[good] == AT.replace(hour=1).timestamp()
    assert status(config.store).last_good_backup == AT.replace(hour=1)
    everything = found((5, 0, {}))
    assert everything["mirror_run_end_timestamp_seconds", "backup", "acme"] == AT.replace(hour=5).timestamp()
    assert everything[good] == AT.replace(hour=5).timestamp()
    assert status(config.store).last_good_backup == AT.replace(hour=5)


def test_where_it_cannot_be_written_the_old_one_stays(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "mirror.prom"
    path.write_text("old")
    with structlog.testing.capture_logs() as logged:
        textfile.update(path, lambda: figures(config.store, config))  # there is no store
        textfile.update(tmp_path / "nowhere" / "mirror.prom", list)
        textfile.update(path, lambda: [Sample(BACKUP_GOOD, 1, ("one label too many",))])
    assert [line["event"] for line in logged] == 3 * ["metrics.not_written"]
    assert [one.name for one in tmp_path.iterdir()] == ["mirror.prom"]
    assert path.read_text() == "old"


def test_the_docs_list_each_metric() -> None:
    page = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
    for one in METRICS:
        assert f"| `{one.name}` | {', '.join(one.labels)} |" in page


def named(text: str) -> set[str]:
    return set(re.findall(r"\bmirror_\w+", text))


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    known = {one.name for one in METRICS}
    rules = yaml.safe_load((DEPLOY / "prometheus" / "mirror-alerts.yaml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(expressions) > 5 and all(named(one) for one in expressions)
    dashboard = json.loads((DEPLOY / "grafana" / "mirror.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert named(" ".join(expressions)) <= known
    assert named(" ".join(shown)) <= known
    # What is measured is shown, but for the version.
    told_otherwise = {"mirror_workspace_complete_timestamp_seconds"}
    assert named(" ".join([*expressions, *shown])) | told_otherwise == known
    labels = {label for one in METRICS for label in one.labels}
    assert set(re.findall(r"\$labels\.(\w+)", str(rules))) <= labels


@pytest.mark.parametrize("kind", ["verify", "drill"])
def test_a_command_by_hand_writes_it(config: Config, tmp_path: Path, kind: str) -> None:
    create_or_open(config.store, now=MADE).close()
    path = tmp_path / "config.yaml"
    path.write_text(
        "store: store\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
        "web: {textfile: mirror.prom}\n"
    )
    done = mirror(kind, "-c", str(path))
    found = read((tmp_path / "mirror.prom").read_text())
    assert found["mirror_run_exit_code", "", kind] == done.returncode


async def test_the_daemon_writes_it_after_each_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(*_: object) -> Run:
        raise Locked("another process backs up")

    create_or_open(config.store, now=MADE).close()
    service = _Service(config, lambda: config, FakeClock(), {})
    monkeypatch.setitem(KINDS, "backup", replace(KINDS["backup"], work=work))
    await service.runner.run("backup")
    await service.end()
    assert read((tmp_path / "mirror.prom").read_text())["mirror_store_damage",] == 0
