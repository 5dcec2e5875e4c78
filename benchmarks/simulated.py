"""Run the simulator in a process of its own, for benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES

WORKSPACE = "acme"
# So many requests that nobody waits.
NO_LIMIT = 10**9


@dataclass(frozen=True)
class Upstream:
    """The simulator's process, where it answers, and a token for it."""

    process: subprocess.Popen[str]
    api: str
    git: str
    token: str

    def requests(self) -> tuple[int, int]:
        """The requests of the API and of git since the last call."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        api, git = json.loads(self.process.stdout.readline())
        return api, git

    def config(self, more: str = "") -> str:
        """A configuration for it, with a store and a token file beside it. `more` is at its end, where the
        workspace's mapping goes on."""
        return (
            f"store: store\nbitbucket: {{api_url: '{self.api}', git_url: '{self.git}'}}\n"
            f"workspaces:\n  - workspace: {WORKSPACE}\n"
            f"    credential: {{kind: workspace_access_token, token: {{file: token}}}}\n{more}"
        )

    def configured(self, folder: Path, more: str = "") -> Path:
        """Write that configuration and the token to `folder`. Returns the configuration's path."""
        secret = folder / "token"
        secret.touch(mode=0o600)
        secret.write_text(self.token)
        config = folder / "config.yaml"
        config.write_text(self.config(more))
        return config


@contextmanager
def upstream(words: Sequence[str]) -> Iterator[Upstream]:
    """The simulator that the module and arguments `words` serve, while the context lasts."""
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Upstream(process, *json.loads(process.stdout.readline()))
        process.stdin.close()


def serve(world: World, token: str) -> None:
    """Run the simulator, and print what a client needs to connect. Then print, for each line of stdin, how
    many requests of the API and of git came since the last one. Ends with stdin."""
    with Simulator(world) as simulator:
        print(json.dumps([simulator.api_url, simulator.git_url, token]), flush=True)
        for _ in sys.stdin:
            kinds = [one.kind for one in simulator.requests]
            simulator.requests.clear()
            print(json.dumps([kinds.count("api"), kinds.count("git")]), flush=True)


def small_repositories(world: World, count: int, *, pull_requests: bool = True) -> str:
    """Fill the world with so many repositories, each with an open pull request. Returns a token that reads
    them."""
    world.limits = {"git": NO_LIMIT, "anonymous": NO_LIMIT}
    workspace = world.add_workspace(WORKSPACE)
    author = world.add_user("Ann", "ann@acme.example")
    for number in range(count):
        repository = workspace.add_repository(f"repository-{number:05}")
        repository.commit("main", {"README.md": b"%d\n" % number}, "Begin\n")
        if pull_requests:
            repository.commit("topic", {"a.txt": b"%d\n" % number}, "Work\n")
            repository.open_pull_request(source="topic", title="Topic", author=author)
    return world.add_workspace_access_token(WORKSPACE, SCOPES)
