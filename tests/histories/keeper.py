"""Run a changing workspace, record with C git what it had, and compare it with what restores give."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from mirror import prune, restore, verify
from mirror.config import Retention, load
from mirror.model import Run, RunEntry, Selector
from mirror.retention import Policy
from mirror.simulator import Simulator, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import RepositoryFolder
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.git.backend import git
from tests.histories import upstream
from tests.place import Place

# Only a large loss stops prune; accepting a loss is a step of its own.
BRAKE = "brake: {share: 60%, at_least: 4}\n"


@dataclass(frozen=True)
class State:
    """What a repository had upstream at a backup. Objects: a hash over C git's sorted list of everything that
    refs reach."""

    refs: dict[str, str]
    head: str
    objects: str
    pulls: dict[str, tuple[str, str, list[str], str]]
    issues: dict[str, tuple[str, list[str]]]
    logs: frozenset[str]


def _refs(repository: Path) -> dict[str, str]:
    lines = subprocess.run(
        ["git", "-C", str(repository), "for-each-ref", "--format=%(objectname) %(refname)"],
        capture_output=True, check=True,
    ).stdout.decode("utf-8", "backslashreplace").splitlines()  # fmt: skip
    # A ref below refs/mirror/ cannot be written under its name; the mirror keeps its value.
    return {
        name: value for value, _, name in (line.partition(" ") for line in lines) if "refs/mirror" not in name
    }


def _objects(repository: Path) -> str:
    words = ("rev-list", "--objects", "--exclude=refs/mirror/*", "--all")
    found = sorted({line.split(" ")[0] for line in git(*words, cwd=repository).splitlines()})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _state(repository: SimRepository) -> State:
    path = repository.git_path
    pulls = {
        str(pull.id): (pull.title, pull.state, [one.text for one in pull.comments], pull.source_hash)
        for pull in repository.pull_requests.values()
    }
    issues = {
        str(one.id): (one.title, [comment.text for comment in one.comments])
        for one in repository.issues.values()
    }
    logs = [step.log for pipeline in repository.pipelines.values() for step in pipeline.steps]
    return State(
        _refs(path),
        (path / "HEAD").read_text().strip(),
        _objects(path),
        pulls,
        issues,
        frozenset(hashlib.sha256(log).hexdigest() for log in logs if log is not None),
    )


class Keeper:
    """Context manager: a workspace, its backups, and the states that each snapshot must restore."""

    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        world = World(folder / "upstream", clock=clock.now, limit=10**9)
        world.limits = {"git": 10**9, "anonymous": 10**9}
        token = world.add_workspace_access_token("acme", SCOPES)
        world.add_workspace("acme").add_repository("shop")
        self._simulator = Simulator(world)
        self._folder = folder
        self._token = token
        self._clock = clock
        self._states: dict[tuple[str, str], State] = {}
        # By folder, the last readable state of the tracker, which the documents must have.
        self._issues: dict[str, dict[str, tuple[str, list[str]]]] = {}
        self.counts: Counter[str] = Counter()
        self._story: list[str] = []

    def __enter__(self) -> Keeper:
        self._simulator.__enter__()
        path = write_config(self._folder, self._simulator, self._token, more=BRAKE)
        self._place = Place(self._folder, self._simulator, load(path))
        self._place.clock = self._clock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._simulator.__exit__(kind, error, trace)
        if error is not None:
            error.add_note("the history: " + "; ".join(self._story))

    def _folders(self) -> list[RepositoryFolder]:
        with self._place.store() as store:
            return store.repositories()

    # -- running a history

    async def step(self, rng: random.Random | None) -> None:
        """Something happens upstream or to the store, and a backup follows. Without `rng`, nothing happens
        before the backup."""
        self._clock.elapsed += 60.0
        if rng is None:
            return
        if rng.random() < 0.12:
            self._clock.elapsed += rng.choice((86400.0, 3 * 86400.0, 40 * 86400.0))
        for _ in range(rng.choice((1, 1, 2, 4))):
            self._story.append(upstream.step(self._place.acme, rng))
            self.counts["changes"] += 1
        await self.backup()
        if rng.random() < 0.2:
            await self._prune(rng)
        if rng.random() < 0.15:
            self._collect_garbage()
        if rng.random() < 0.1:
            await self._verify()

    async def backup(self) -> None:
        """Run a backup, and record what upstream has now."""
        run = await self._place.run()
        self.counts["backups"] += 1
        problems = [*run.problems, *(problem for entry in run.entries for problem in entry.problems)]
        absent = all("its copy is kept" in problem.text for problem in problems)
        assert run.exit_code in (0, 5) or (run.exit_code == 3 and absent), _told(run)
        if run.exit_code == 5:
            self._story.append("brake")
            await prune.accept_loss(self._place.config.store, Selector("acme"), by="ann", clock=self._clock)
        places = {one.uuid: one.place for one in self._folders()}
        there = {one.uuid: one for one in self._place.acme.repositories.values()}
        entries = {entry.uuid: entry for entry in run.entries if entry.kind == "repository"}
        assert there.keys() <= entries.keys(), "a repository was passed over"
        for uuid, repository in there.items():
            self._remember(places[uuid], repository, entries[uuid])

    def _remember(self, place: str, repository: SimRepository, entry: RunEntry) -> None:
        state = _state(repository)
        if self._has_tracker(place):
            self._issues[place] = state.issues
        state = replace(state, issues=self._issues.get(place, {}))
        assert entry.snapshot is not None, f"{entry.full_name}: {entry.outcome}"
        key = (place, entry.snapshot)
        if str(entry.outcome) == "confirmed":
            assert self._states[key] == state, f"{entry.full_name} had changed, and was called confirmed"
        else:
            assert key not in self._states
        self._states[key] = state

    def _has_tracker(self, place: str) -> bool:
        """Whether the last snapshot says that it has all issues. Where there was no tracker, not every run
        asks again, so a run may notice late that it is back."""
        [folder] = [one for one in self._folders() if one.place == place]
        latest = folder.metadata.latest()
        assert latest is not None
        return str(latest.parts["issues"].state) == "complete"

    async def _prune(self, rng: random.Random) -> None:
        policy = Policy(
            keep_last=rng.choice((1, 2, 3, 5)),
            keep_daily=rng.choice((0, 0, 2)),
            keep_weekly=rng.choice((0, 3)),
            keep_within=rng.choice((None, timedelta(hours=3))),
        )
        gone = rng.choice((None, timedelta(days=1)))
        config = self._place.config
        workspaces = tuple(replace(one, retention=Retention(policy, None, gone)) for one in config.workspaces)
        before = {one.place: list(one.metadata.tags()) for one in self._folders()}
        run = await prune.prune(
            replace(config, workspaces=workspaces), clock=self._clock, environment=os.environ
        )
        assert run.exit_code == 0, _told(run)
        self._story.append(f"prune {policy}")
        dropped = {entry.folder: set(entry.facts.get("dropped", ())) for entry in run.entries}
        for one in self._folders():
            left = [tag for tag in before[one.place] if tag not in dropped[one.place]]
            assert list(one.metadata.tags()) == left, "prune did not do as it says"
            assert left[-1:] == before[one.place][-1:], "the newest went"
            self.counts["dropped"] += len(dropped[one.place])

    def _collect_garbage(self) -> None:
        """Remove everything that no ref reaches, at once, as a person might do by hand."""
        self._story.append("gc")
        for one in self._folders():
            for path in (one.code, one.metadata.path):
                if path.exists():
                    git("gc", "--prune=now", "--quiet", cwd=path)
                    self.counts["collected"] += 1

    async def _verify(self) -> None:
        run = await verify.run(self._place.config.store, clock=self._clock, environment=os.environ)
        assert run.exit_code == 0, run.facts["findings"]

    # -- restoring

    async def restore_all(self) -> None:
        """Restore every kept snapshot; each must equal the recorded state."""
        self._clock.elapsed += 60.0
        await self._verify()
        left = {(one.place, tag) for one in self._folders() for tag in one.metadata.tags()}
        assert left <= self._states.keys() | set(), f"snapshots nobody knows of: {left - self._states.keys()}"
        assert left or not self._states, "nothing is left"
        while left:
            at = max(tag for _, tag in left)
            for key, target in (await self._restore("acme/*", at)).items():
                if key in left:
                    self._compare(target, key)
                    left.remove(key)
                    self.counts["restored"] += 1

    async def _restore(self, selector: str, at: str) -> dict[tuple[str, str], Path]:
        """Restore everything as of the second of the snapshot `at`."""
        time = f"{at[:4]}-{at[4:6]}-{at[6:8]}T{at[9:11]}:{at[11:13]}:{at[13:15]}Z"
        found: dict[tuple[str, str], Path] = {}
        for one in self._folders():
            # Older than its first snapshot: there is nothing to restore.
            if not any(tag <= at for tag in one.metadata.tags()):
                continue
            target = self._folder / "back" / at / one.folder
            report = await restore.run(
                self._place.config.store,
                Selector("acme", one.folder),
                target=str(target),
                at=time,
                environment=os.environ,
            )
            assert report.exit_code == 0, report.to_json()
            found[one.place, report.items[0].snapshot] = target
        return found

    def _compare(self, target: Path, key: tuple[str, str]) -> None:
        state, code, metadata = self._states[key], target / "code.git", target / "metadata"
        assert _refs(code) == state.refs
        assert (code / "HEAD").read_text().strip() == state.head
        assert _objects(code) == state.objects
        assert "error" not in git("fsck", "--full", "--no-dangling", cwd=code)
        pulls = {}
        for path in sorted(metadata.glob("pull-requests/*/*.json")):
            document = json.loads(path.read_text())
            pull = document["pull_request"]
            texts = [one["content"]["raw"] for one in _by_id(document["comments"])]
            pulls[str(pull["id"])] = (pull["title"], pull["state"], texts, pull["source"]["commit"]["hash"])
        assert pulls.keys() == state.pulls.keys()
        for number, (title, said, texts, head) in state.pulls.items():
            assert pulls[number][:3] == (title, said, texts)
            assert head.startswith(pulls[number][3])
        issues = {
            str(document["issue"]["id"]): (
                document["issue"]["title"],
                [one["content"]["raw"] for one in _by_id(document["comments"])],
            )
            for document in (json.loads(path.read_text()) for path in metadata.glob("issues/*/*.json"))
        }
        assert issues == state.issues
        assert state.logs <= {path.name for path in (target / "files").rglob("*") if path.is_file()}


def _by_id(comments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(comments, key=lambda one: int(one["id"]))


def _told(run: Run) -> str:
    texts = [problem.text for problem in run.problems]
    texts += [f"{one.full_name}: {problem.text}" for one in run.entries for problem in one.problems]
    return f"{run.exit_code}: {texts}"
