"""A believable store for the page: many repositories with long histories, some of which are not well.

The ledgers, identities and run records are real; of git there are the tags and sizes, which is all that an
overview reads.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.model import Outcome, Part, PartState, Problem, Run, RunEntry, RunKind, Snapshot, snapshot_id
from mirror.store.format import layout
from mirror.store.format.brake import Brake, Loss
from mirror.store.format.identity import RepositoryIdentity, WorkspaceIdentity
from mirror.store.format.ledger import Ledger, LedgerEntry, read_ledger
from mirror.store.format.seal import sealed
from mirror.store.writing.writer import create_or_open, open_store

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
PROGRAM = "mirror 0.8.0"
HOSTILE = "<script>document.title='owned'</script>"
LONG = "the server ended the connection " + "again and " * 60 + "again"
_FIRST = ("billing", "web", "ios", "android", "auth", "search", "data", "infra", "docs", "partner", "legacy")
_LAST = ("api", "app", "worker", "client", "gateway", "tools", "schema", "reports", "importer", "config")
_OTHERS: dict[RunKind, timedelta] = {
    "drill": timedelta(days=20), "verify": timedelta(hours=30), "prune": timedelta(hours=4),
}  # fmt: skip
_PARTS = ("code", "profile", "pull_requests", "pipelines", "settings", "downloads")


@dataclass
class Thing:
    """One repository of the world: how it is, and since when."""

    slug: str
    uuid: str
    place: str
    outcome: Outcome = Outcome.CONFIRMED
    parts: dict[str, Part] = field(default_factory=dict)
    problem: Problem | None = None
    # Runs that failed for it, the last ones.
    failed: int = 0
    gone_since: datetime | None = None
    ledger: str = ""
    last: str = ""

    @property
    def full_name(self) -> str:
        """Its name."""
        return f"acme/{self.slug}"


def make_world(
    path: Path,
    *,
    repositories: int = 500,
    snapshots: int = 12,
    runs: int = 40,
    hours: int = 20,
    most_bytes: int = 1 << 40,
    is_hostile: bool = True,
    now: datetime = NOW,
) -> Path:
    """A store of this many repositories, each with this many snapshots, and this many backups, `hours`
    apart."""
    choice = random.Random(16)
    create_or_open(
        path, now=now - timedelta(days=400), new_id=str(uuid.UUID(int=16)), command="tests"
    ).close()
    home = f"{layout.WORKSPACES}/{layout.folder_name('acme', _uuid(choice))}"
    things = [_thing(choice, home, number) for number in range(repositories)]
    _make_unwell(things, is_hostile=is_hostile)
    workspace = _make_workspace(path, home, choice, snapshots, now)
    for thing in things:
        _make_repository(path, thing, choice, snapshots, now, most_bytes)
    _write_runs(path, things, workspace, runs, hours, now)
    return path


def _uuid(choice: random.Random) -> str:
    return "{" + str(uuid.UUID(int=choice.getrandbits(128), version=4)) + "}"


def _thing(choice: random.Random, home: str, number: int) -> Thing:
    slug = f"{choice.choice(_FIRST)}-{choice.choice(_LAST)}-{number:03}"
    own = _uuid(choice)
    place = f"{home}/{layout.REPOSITORIES}/{layout.folder_name(slug, own)}"
    parts = {name: Part(PartState.COMPLETE, {"documents": choice.randint(1, 400)}) for name in _PARTS}
    return Thing(slug, own, place, parts=parts)


def _make_unwell(things: Sequence[Thing], *, is_hostile: bool) -> None:
    """Make some repositories fail, each for a reason that a person meets."""
    early = "refs/heads/main: the server sent a pack that ends early; the next run asks again"
    reasons = [
        early,
        "no answer from bitbucket.org for 5 min",
        "git answered 403: the token may not read the code",
    ]
    if is_hostile:
        reasons = [early, f"no answer from bitbucket.org for 5 min {HOSTILE}", LONG]
    for thing, reason in zip(things[7::97], reasons, strict=False):
        thing.outcome, thing.failed = Outcome.FAILED, 5
        thing.problem = Problem(1, reason, "code")
    for thing in things[11::170]:
        thing.outcome, thing.failed = Outcome.PARTIAL, 2
        thing.parts["pull_requests"] = Part(
            PartState.DENIED, reason="this token may not read them", scope="pullrequest"
        )
        thing.problem = Problem(
            3, "pull_requests: denied: this token may not read them (scope pullrequest)", "pull_requests"
        )
    for thing in things[13::240]:
        thing.outcome, thing.failed = Outcome.PARTIAL, 2
        thing.parts["pipelines"] = Part(
            PartState.PARTIAL, {"documents": 40}, reason="12 step logs to ask for"
        )
        thing.problem = Problem(3, "pipelines: partial: 12 step logs to ask for", "pipelines")
    for thing in things[5::160]:
        thing.outcome, thing.gone_since = Outcome.GONE, NOW - timedelta(days=40)
    for thing in things[17::400]:
        thing.outcome, thing.failed = Outcome.PENDING, 1


def _make_workspace(path: Path, home: str, choice: random.Random, snapshots: int, now: datetime) -> Thing:
    own = "{" + home.rpartition("~")[2] + str(uuid.UUID(int=choice.getrandbits(128), version=4))[8:] + "}"
    workspace = Thing("acme", own, home, parts={"settings": Part(PartState.COMPLETE, {"documents": 12})})
    _write(
        path, f"{home}/{layout.WORKSPACE_FILE}", WorkspaceIdentity(own, "acme", "Acme", _begin(now)).to_json()
    )
    _write_history(path, workspace, choice, snapshots, now)
    loss = Loss("repositories", "acme", 540, 500, now - timedelta(days=2))
    _write(path, f"{home}/{layout.BRAKE_FILE}", Brake(losses=(loss,)).to_json())
    return workspace


def _begin(now: datetime) -> datetime:
    return now - timedelta(days=380)


def _write(path: Path, file: str, content: dict[str, object]) -> None:
    target = path / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(sealed(content))


def _make_repository(
    path: Path, thing: Thing, choice: random.Random, snapshots: int, now: datetime, most: int
) -> None:
    identity = RepositoryIdentity(thing.uuid, thing.full_name, _begin(now), (), None, thing.gone_since)
    _write(path, f"{thing.place}/{layout.REPOSITORY_FILE}", identity.to_json())
    _write_history(path, thing, choice, snapshots, now)
    packs = path / thing.place / layout.CODE / "objects" / "pack"
    packs.mkdir(parents=True)
    for number in range(3):
        pack = packs / f"pack-{number}.pack"
        with pack.open("wb") as stream:
            stream.truncate(min(most, int(choice.lognormvariate(16, 1.6))))  # sparse: it takes no room
        written = (_begin(now) + timedelta(days=choice.triangular(0, 379, 30))).timestamp()
        os.utime(pack, (written, written))


def _write_history(path: Path, thing: Thing, choice: random.Random, snapshots: int, now: datetime) -> None:
    """The ledger of a folder, and the tags that it lists."""
    end = thing.gone_since or now
    step = (end - _begin(now)) / (snapshots + 1)
    entries = []
    for number in range(1, snapshots + 1):
        when = (_begin(now) + step * number).replace(microsecond=0)
        tree = f"{choice.getrandbits(160):040x}"
        is_complete = number < snapshots or all(part.is_settled for part in thing.parts.values())
        entries.append(LedgerEntry(snapshot_id(when), number, when, tree, None, is_complete))
    last = entries[-1]
    thing.last = last.id
    latest = Snapshot(
        last.id, last.time, last.sequence, PROGRAM, thing.uuid, thing.full_name, thing.parts, last.tree
    )
    _write(path, f"{thing.place}/{layout.LEDGER_FILE}", Ledger(tuple(entries), 1, latest).to_json())
    ledger = read_ledger(path, thing.place)
    assert ledger is not None and ledger.sha256 is not None
    thing.ledger = ledger.sha256
    metadata = path / thing.place / layout.METADATA
    for folder in ("objects/pack", "refs/tags", "refs/heads"):
        (metadata / folder).mkdir(parents=True)
    (metadata / "HEAD").write_text("ref: refs/heads/main\n")
    (metadata / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    tags = "".join(f"{choice.getrandbits(160):040x} refs/tags/{one.id}\n" for one in entries)
    (metadata / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + tags)


def _write_runs(
    path: Path, things: Sequence[Thing], workspace: Thing, runs: int, hours: int, now: datetime
) -> None:
    with open_store(path, command="tests") as store:
        for number in range(runs):
            left = runs - 1 - number
            begun = now - timedelta(hours=hours * left, minutes=20)
            entries = [_entry(thing, left) for thing in things]
            entries.append(replace(_entry(workspace, left), kind="workspace"))
            problems: tuple[Problem, ...] = ()
            if left == runs // 2:
                problems = (Problem(75, "Bitbucket answered 503 for 10 minutes; the next run asks again"),)
            if left < 2:
                problems = (Problem(5, "acme: repositories fell from 540 to 500"),)
            store.write_run(
                Run(
                    store.new_run_id(begun),
                    "backup",
                    begun,
                    begun + timedelta(minutes=6 + left % 5),
                    PROGRAM,
                    tuple(entries),
                    problems,
                    {"requests": 1031 - left, "brakes": [workspace.place]},
                )
            )
        for kind, before in _OTHERS.items():
            begun = now - before
            ended = begun + timedelta(minutes=41)
            store.write_run(Run(store.new_run_id(begun), kind, begun, ended, PROGRAM))


def _entry(thing: Thing, left: int) -> RunEntry:
    """What a run says of a repository; `left` runs followed."""
    outcome, problems = thing.outcome, (thing.problem,) if thing.problem is not None else ()
    if thing.failed and left >= thing.failed:
        outcome, problems = Outcome.CONFIRMED, ()
    return RunEntry(
        "repository", thing.full_name, thing.uuid, thing.place, outcome,
        thing.last if outcome not in (Outcome.FAILED, Outcome.PENDING) else None, ledger=thing.ledger,
        parts=thing.parts, problems=problems, seconds=0.4,
    )  # fmt: skip
