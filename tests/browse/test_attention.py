"""What needs attention comes first, with its reason and the next command; what is well is summed up."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror import browse
from mirror.browse import Concern, RepositoryStatus, Status, Urgency
from mirror.browse.status import WorkspaceStatus
from mirror.cli.commands import status as command
from mirror.cli.context import Context
from mirror.cli.system import SystemClock
from mirror.cli.terminal.output import Output
from mirror.model import JsonObject
from mirror.store.reading.troubles import FailureStreak
from tests.cli.on_terminal import on_terminal, too_wide
from tests.e2e.helpers import json_of, mirror
from tests.place import Place

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
REASON = "code partial: the server did not answer (503)"


def repository(name: str, **changes: object) -> RepositoryStatus:
    whole = RepositoryStatus(
        f"acme/{name}", f"{name}~00000001", "confirmed", "20261129T110000Z", "20261129T110000Z",
        NOW - timedelta(minutes=3), 7, 1 << 20,
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


ILL = {
    "damaged": repository("damaged"),
    "lossy": repository("lossy"),
    "failing": repository("failing", state="partial", failing=FailureStreak(4, "2026-11-28", REASON)),
    "old": repository("old"),
    "denied": repository("denied", missing={"pull_requests": "denied: scope pullrequest is missing"}),
    "absent": repository("absent", state="absent"),
    "new": repository("new", last_snapshot=None, last_complete=None),
    "gone": repository("gone", state="gone since 2026-01-01", is_settled=True, last_confirmed=None),
}
WELL = tuple(repository(f"well-{number:03}") for number in range(493))
DAMAGE = "workspaces/acme~1/repositories/damaged~00000001/snapshots.json: its seal is broken"
FOUND = Status(
    "/store", (*WELL, *reversed(ILL.values())), None, None, None, damage=(DAMAGE,),
    losses=("acme/lossy: refs fell from 40 to 2",),
    workspaces=(WorkspaceStatus("acme", "20261129T110000Z", {}, {}, NOW),),
)  # fmt: skip
LATE = {"acme/old": "was last complete at 2026-11-01T00:00:00Z"}


def last(code: int, ended: str, *problems: str) -> JsonObject:
    return {"run": "r", "started": ended, "ended": ended, "exit_code": code, "problems": list(problems)}


UNREAD = "acme: the secret file /token cannot be read"


@pytest.mark.parametrize(
    ("jobs", "urgency", "reason", "command"),
    [
        ({"backup": last(2, "2026-11-29T11:00:00Z", UNREAD)}, Urgency.FAILING,
         f"the last backup ended with 2: {UNREAD}", "backup"),
        ({"backup": last(0, "2026-11-28T11:00:00Z"),
          "backup of acme": last(12, "2026-11-29T11:00:00Z", "acme: the credential is refused")},
         Urgency.FAILING, "the last backup of acme ended with 12: acme: the credential is refused", "backup"),
        ({"verify": last(4, "2026-11-29T11:00:00Z")},
         Urgency.DAMAGE, "the last verify ended with 4", "verify"),
        ({"drill": last(1, "2026-11-29T11:00:00Z")}, Urgency.FAILING, "the last drill ended with 1", "drill"),
    ],
)  # fmt: skip
def test_a_run_that_went_wrong_as_a_whole_is_told_though_no_repository_tells_it(
    jobs: dict[str, JsonObject], urgency: Urgency, reason: str, command: str
) -> None:
    found = Status("/store", WELL, None, None, None, jobs=jobs)
    [one] = several = browse.concerns(found, {})
    assert (one.name, one.urgency, one.reason, one.command) == ("", urgency, reason, command)
    assert "All" not in browse.verdict(found, several)


@pytest.mark.parametrize(
    "jobs",
    [
        {
            "backup of acme": last(2, "2026-11-28T11:00:00Z", UNREAD),
            "backup": last(0, "2026-11-29T11:00:00Z"),
        },
        {"backup": last(130, "2026-11-29T11:00:00Z", "the run was interrupted")},
        {"backup": last(4, "2026-11-29T11:00:00Z", DAMAGE)},
        {"backup": last(3, "2026-11-29T11:00:00Z")},  # the repositories tell it
    ],
)
def test_what_was_made_good_or_is_told_already_is_not_told_again(jobs: dict[str, JsonObject]) -> None:
    found = replace(FOUND, jobs=jobs)
    assert browse.concerns(found, LATE) == browse.concerns(FOUND, LATE)


def test_the_most_urgent_comes_first_with_what_to_type() -> None:
    several = browse.concerns(FOUND, LATE)
    assert [(one.name, one.urgency, one.command) for one in several] == [
        ("acme/damaged", Urgency.DAMAGE, "verify acme/damaged"),
        ("acme/lossy", Urgency.BRAKE, "accept-loss acme/lossy"),
        ("acme/failing", Urgency.FAILING, "backup acme/failing"),
        ("acme/old", Urgency.STALE, "backup acme/old"),
        ("acme/denied", Urgency.MISSING, "doctor"),
        ("acme/new", Urgency.MISSING, "backup acme/new"),
        ("acme/absent", Urgency.NOTED, ""),
    ]
    reasons = {one.name: one.reason for one in several}
    assert reasons["acme/failing"] == f"failed 4 runs in a row since 2026-11-28: {REASON}"
    assert reasons["acme/denied"] == "pull requests denied: scope pullrequest is missing"
    assert reasons["acme/lossy"].startswith("refs fell from 40 to 2;")


def test_one_sentence_says_how_the_store_is() -> None:
    several = browse.concerns(FOUND, LATE)
    assert browse.verdict(FOUND, several) == (
        "7 need attention (1 damaged, 1 lost much upstream, 1 failing, 1 too old, 2 incomplete,"
        " 1 to be looked at); 494 of 501 repositories are well."
    )
    fine = replace(FOUND, repositories=WELL, damage=(), losses=())
    assert browse.verdict(fine, browse.concerns(fine, {})) == "All 493 repositories are well."
    empty = replace(fine, repositories=())
    assert "mirror backup" in browse.verdict(empty, browse.concerns(empty, {}))


def test_a_reason_that_many_share_is_told_once() -> None:
    lacks = {"pull_requests": "denied: scope pullrequest is missing"}
    ill = tuple(repository(f"ill-{number}", missing=lacks) for number in range(7))
    partial = tuple(repository(f"slow-{number}", missing={"lfs": "partial: no room"}) for number in range(2))
    found = Status("/store", (*ill, *partial), None, None, None)
    scope, room = browse.shared(browse.concerns(found, {}))
    assert (len(scope.names), scope.command) == (7, "doctor")
    assert (room.names, room.command) == (
        ("acme/slow-0", "acme/slow-1"), "backup acme/slow-0 acme/slow-1",
    )  # fmt: skip
    refused = repository(
        "refused", failing=FailureStreak(1, "2026-11-29", "code denied: refused"),
        missing={"code": "denied: refused", "issues": "denied: bad token", "lfs": "denied: bad token"},
        problems=("code denied: refused", "only git could be asked: bad token"),
    )  # fmt: skip
    of_one = browse.concerns(Status("/store", (refused,), None, None, None), {})
    assert [(one.reason, one.command) for one in of_one] == [
        ("the last backup failed: code denied: refused", "doctor"),
        ("issues, LFS denied: bad token", "doctor"),
    ]
    many = Status("/store", (), None, None, None, losses=("acme/a: refs fell", "acme/b: refs fell"))
    assert [one.command for one in browse.shared(browse.concerns(many, {}))] == [
        "accept-loss acme/a", "accept-loss acme/b",
    ]  # fmt: skip


def test_damage_of_the_store_itself_has_no_name() -> None:
    found = replace(FOUND, damage=("runs/x.json: its seal is broken",))
    assert browse.concerns(found, {})[0] == Concern(
        "", Urgency.DAMAGE, "runs/x.json: its seal is broken", "verify"
    )


@pytest.mark.parametrize(
    ("ages", "text"),
    [([], ""), ([3], "confirmed 3 min ago"), ([3, 300, 60], "confirmed 3 min to 5 h ago")],
)
def test_the_freshness_of_many_is_a_span(ages: list[int], text: str) -> None:
    several = [repository("a", last_confirmed=NOW - timedelta(minutes=one)) for one in ages]
    assert browse.when_confirmed([*several, repository("b", last_confirmed=None)], NOW) == text


def _print(**options: object) -> int:
    """Print FOUND as `mirror status` does."""
    out = Output(as_json=False, no_colour=True)
    plain = {"config": None, "store": Path("/a store"), "all": False, **options}
    context = Context(argparse.Namespace(**plain), {}, SystemClock(), out)
    several = browse.concerns(FOUND, LATE)
    command._show_concerns(context, browse.shared(several))
    command._show_repositories(out, FOUND, several, NOW, is_summed=out.is_terminal and not plain["all"])
    out.flush()
    return 0


def run_status_of_500() -> int:
    return _print()


def run_status_of_500_all() -> int:
    return _print(all=True)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_shows_the_ill_and_sums_up_the_well(columns: int) -> None:
    lines = on_terminal(columns=columns, program="tests.browse.test_attention:run_status_of_500")
    assert not [line for line in too_wide(lines, columns) if "→" not in line]
    assert not [line for line in lines if line.startswith("acme/well")]
    assert lines[-1].endswith("lists them") or "--all" in lines[-2] + lines[-1]
    # Without a configuration there is nothing to run a backup with, and the store is the one of this call.
    assert "    → mirror verify acme/damaged --store '/a store'" in lines
    assert not [line for line in lines if "→ mirror backup" in line]
    rows = [line for line in lines if line.startswith("acme/")]
    assert [row.split()[0] for row in rows] == [
        f"acme/{name}" for name in ("damaged", "lossy", "failing", "old", "denied", "new", "absent")
    ]


def test_all_of_them_on_request() -> None:
    lines = on_terminal(columns=80, program="tests.browse.test_attention:run_status_of_500_all")
    assert sum(line.startswith("acme/") for line in lines) == len(FOUND.repositories)


def test_scripts_get_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    _print()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("acme/") for line in lines) == len(FOUND.repositories)
    [heading] = [line for line in lines if line.startswith("REPOSITORY")]
    assert heading.split("  ")[0] == "REPOSITORY" and "LAST CONFIRMED" in heading and "SIZE" in heading


async def test_json_has_the_verdict_beside_what_it_always_had(place: Place) -> None:
    await place.run()
    found = json_of(mirror("status", "--store", str(place.config.store), "--json"))
    assert found["verdict"] == f"All {len(found['repositories'])} repositories are well."
    assert found["attention"] == []
    assert {"schema", "store", "last_backup", "damage", "losses", "workspaces", "repositories"} <= set(found)
