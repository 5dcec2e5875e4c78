"""The actions that accidents interrupt: commands, each with a prepared store and Bitbucket.

To add one, add an Action to ACTIONS: the words of the command, and what comes before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror.simulator import Simulator, World
from mirror.simulator.git.lfs import add_object
from mirror.simulator.world.sample import BRANCH_LOST, BRANCH_LOST_IN, REWRITTEN, SCOPES, SLUG, populate
from tests.crash.zygote import Settings, Zygote
from tests.e2e.helpers import write_config

STORE = Path("data") / "store"  # two folders deep, so that the first backup creates both
BACKUP = ("backup", "--init", "--json")
Before = Callable[[World], None] | Sequence[str]


def small(world: World) -> None:
    """One repository with something of every kind, so that every step of a run can be tried."""
    ann = world.add_user("Ann Archer", "ann@acme.example")
    website = world.add_workspace(SLUG, "Acme").add_repository(REWRITTEN, description="The shop window")
    logo = add_object(website, b"a logo, as Git LFS keeps it\n" * 40)
    first = website.commit("main", {"index.html": b"<h1>Hello</h1>\n", "logo.png": logo}, "Begin\n")
    website.tag("v1", first, "The first\n")
    website.commit("topic", {"topic.txt": b"1\n"}, "A topic\n", parents=[first])
    website.commit("old", {"old.txt": b"1\n"}, "An old branch\n", parents=[first])
    website.open_pull_request(source="topic", title="A topic", author=ann).comment("Fine.", author=ann)
    website.add_pipeline(steps=[("build", b"npm ci\nDone.\n")])


def changes(world: World) -> None:
    """Pushes, a force-push, a deleted branch, a new pull request and a pipeline."""
    ann = world.add_user("Ann Archer", "ann@acme.example")
    website = world.workspaces[SLUG].repositories[REWRITTEN]
    hero = add_object(website, b"a picture, as Git LFS keeps it\n" * 40)
    tip = website.commit("main", {"more.html": b"<p>More</p>\n", "hero.png": hero}, "More\n")
    again = website.commit("rewrite", {"topic.txt": b"2\n"}, "Another topic\n", parents=())
    website.force("topic" if website.has_branch("topic") else "feature/blog", again)
    website.delete_ref(b"refs/heads/rewrite")
    if website.has_branch("old"):
        website.delete_ref(b"refs/heads/old")
    website.commit("fresh", {"fresh.txt": b"1\n"}, "Fresh\n", parents=[tip])
    website.open_pull_request(source="fresh", title="Fresh", author=ann).comment("New.", author=ann)
    website.add_pipeline(steps=[("build", b"npm ci\nDone again.\n")])


def more_changes(world: World) -> None:
    """Changes in other repositories of the sample, including a rename."""
    changes(world)
    workspace = world.workspaces[SLUG]
    workspace.repositories[BRANCH_LOST_IN].delete_ref(b"refs/heads/" + BRANCH_LOST.encode())
    workspace.repositories["handbook"].commit("main", {"a.md": b"# A\n"}, "At last\n")
    workspace.rename_repository("billing", "invoices")


def again(world: World) -> None:
    """One more push."""
    world.workspaces[SLUG].repositories[REWRITTEN].commit(
        "main", {"again.html": b"<p>Again</p>\n"}, "Again\n"
    )


@dataclass(frozen=True)
class Action:
    """A command to interrupt.

    `before` has the steps that precede it, in order: commands to run, and functions that change Bitbucket.
    `settings` are arguments of functions in the interrupted run. `config` is appended to the
    configuration. `lets_go`: the command may remove or rewrite snapshots on purpose, so that only what stays
    must be unchanged. `erases`: the document that a tombstone with its own time replaces. `codes`: the
    allowed exit codes, if not only 0. `first_again`: after the accident the command runs again before the
    next backup, not after it.
    """

    words: tuple[str, ...] = BACKUP
    world: Callable[[World], None] = small
    before: tuple[Before, ...] = ()
    settings: Settings = field(default_factory=dict)
    config: str = ""
    lets_go: bool = False
    erases: str = ""
    codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    first_again: bool = False

    @property
    def next(self) -> list[tuple[str, ...]]:
        """The commands to run after the accident, without manual work."""
        if self.words == BACKUP:
            return [BACKUP]
        return [self.words, BACKUP] if self.first_again else [BACKUP, self.words]

    def may_end(self, words: Sequence[str]) -> tuple[int, ...]:
        """The exit codes that a command may have."""
        return self.codes.get(words[0], (0,))


# With 1, every run merges the packs of documents.
_MERGING = {"mirror.store.writing.draft.consolidate": {"packs_max": 1}}

# The run merges the mirror's packs at once, and removes merged packs at once.
_UPKEEP = {"mirror.backup.run": {"maintenance_limits": {"packs": 1, "grace": 0, "graph": 0}}}


def _erase(*what: str) -> Action:
    """An erasure. The next backup may have finished it already, so that nothing is left to erase."""
    selector = f"{SLUG}/{REWRITTEN}"
    return Action(
        ("erase", selector, *what, "--reason", "asked for", "--yes", "--json"),
        before=(BACKUP, changes, BACKUP, again, BACKUP),
        lets_go=True,
        erases=what[1] if "--document" in what else "",
        codes={"erase": (0, 2)},
    )


ACTIONS: dict[str, Action] = {
    "first": Action(),
    "second": Action(before=(BACKUP, changes)),
    "unchanged": Action(before=(BACKUP,)),
    "merging": Action(before=(BACKUP, changes), settings=_MERGING),
    "upkeep": Action(before=(BACKUP, changes, BACKUP, again), settings=_UPKEEP),
    "prune": Action(
        ("prune", "--json"),
        before=(BACKUP, changes, BACKUP, again, BACKUP),
        config="retention: {keep_last: 1, pipeline_logs: 400d}\n",
        lets_go=True,
    ),
    "erase-document": _erase("--document", "pull-requests/0/1.json"),
    "erase-ref": _erase("--ref", "refs/heads/old"),
    "erase-all": _erase(),
    "accept-loss": Action(
        ("accept-loss", SLUG, "--json"),
        before=(BACKUP, changes, BACKUP),
        config="brake: {share: 1%, at_least: 1}\n",
        codes={"backup": (0, 5)},
        first_again=True,
    ),
    "large-first": Action(world=populate),
    "large-second": Action(world=populate, before=(BACKUP, more_changes)),
}


class Scene:
    """An action's world with the simulator that serves it, and the store before the action."""

    def __init__(self, folder: Path, name: str, zygote: Zygote, simulator: Simulator, token: str) -> None:
        self.folder = folder
        self.name = name
        self.action = ACTIONS[name]
        self.zygote = zygote
        self._simulator = simulator
        self._token = token
        self._count = 0
        self.base = folder / "base"
        self._configure(self.base)
        for step in self.action.before:
            if callable(step):
                step(simulator.world)
            else:
                done = zygote.run(step, folder=self.base)
                assert done.code in self.action.may_end(step), done.stdout + done.stderr
        # The result of the action without an accident.
        self.done = self.place("done")
        ended = zygote.run(self.action.words, folder=self.done, settings=self.action.settings)
        assert ended.code == 0, ended.stdout + ended.stderr

    def _configure(self, place: Path) -> None:
        place.mkdir()
        path = write_config(place, self._simulator, self._token, more=self.action.config)
        path.write_text(path.read_text().replace("store: store", f"store: {STORE}", 1))

    def place(self, name: str = "") -> Path:
        """A folder with a configuration and a copy of the store before the action."""
        self._count += 1
        self._simulator.requests.clear()
        place = self.folder / (name or f"place-{self._count}")
        self._configure(place)
        if (self.base / STORE).exists():
            shutil.copytree(self.base / STORE, place / STORE)
        return place


@contextmanager
def scene(folder: Path, name: str) -> Iterator[Scene]:
    """The scene of the action `name`, in `folder`."""
    action = ACTIONS[name]
    with ExitStack() as stack:
        zygote = stack.enter_context(Zygote())
        world = World(folder / "upstream", limit=10**9)
        world.limits = {"git": 10**9, "anonymous": 10**9}
        action.world(world)
        token = world.add_workspace_access_token(SLUG, SCOPES)
        simulator = stack.enter_context(Simulator(world))
        yield Scene(folder, name, zygote, simulator, token)
