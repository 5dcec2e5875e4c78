"""`mirror demo`: a workspace is backed up, meets with an accident, and comes back.

The demo types real commands. Each line after a `$` is run by the same `main` that a person's shell
would start, against a Bitbucket simulated on this machine; nothing is staged but the accident.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mirror.cli.context import Context
from mirror.git.mirrors import fetch
from mirror.restore import CODE
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import LOST, REWRITTEN, SCOPES, SLUG, accident, populate

Command = Callable[[list[str]], int]
WIDTH = 96


class Story:
    """Tells the story on the terminal, and keeps count of what went as it should."""

    def __init__(self, command: Command, config: Path) -> None:
        self._command = command
        self._config = config
        self.failures: list[str] = []

    def chapter(self, title: str, text: str = "") -> None:
        """A heading, and what is about to happen."""
        print(f"\n== {title}", flush=True)
        if text:
            print(textwrap.fill(text, WIDTH), flush=True)

    def run(self, *words: str, expect: int = 0) -> None:
        """Type a command, show what it prints, and note an exit code other than the expected one."""
        print(f"\n$ mirror {shlex.join(words)}\n", flush=True)
        code = self._command([*words, "--config", str(self._config), "--quiet"])
        print(f"[exit code {code}]", flush=True)
        if code != expect:
            self.failures.append(f"mirror {words[0]} ended with {code}, not {expect}")

    def compare(self, what: str, before: dict[bytes, str], restored: Path) -> None:
        """Hold a restored repository against what upstream had before the accident."""
        after = dict(fetch.read_refs(restored / CODE).refs)
        print(f"   {what}: {len(before)} refs before the accident, {len(after)} restored: ", end="")
        print("identical" if after == before else "DIFFERENT", flush=True)
        if after != before:
            self.failures.append(f"{what} came back different")


def write_config(folder: Path, *, store: Path, token: str, simulator: Simulator) -> Path:
    """A config file such as a person would write, with its token in a file of its own."""
    token_file = folder / "acme.token"
    token_file.touch(mode=0o600)
    token_file.write_text(token + "\n", encoding="utf-8")
    config = folder / "config.yaml"
    config.write_text(
        textwrap.dedent(
            f"""\
            store: {store}
            bitbucket:
              api_url: {simulator.api_url}
              git_url: {simulator.git_url}
              oauth_url: {simulator.oauth_url}
            network: {{proxy: none}}
            workspaces:
              - workspace: {SLUG}
                credential: {{kind: workspace_access_token, token: {{file: {token_file}}}}}
            """
        ),
        encoding="utf-8",
    )
    return config


def tell(story: Story, world: World, folder: Path) -> None:
    """The whole story: back up, accident, back up, look, bring back, compare."""
    repositories = world.workspaces[SLUG].repositories
    before = {name: repositories[name].refs() for name in (LOST, REWRITTEN)}
    restored = folder / "restored"
    story.chapter("A workspace is backed up", "Every repository, with its pull requests and pipelines.")
    story.run("init")
    story.run("backup")
    first = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1)  # snapshots are told apart by the second

    story.chapter("An accident upstream")
    for line in accident(world):
        print(f"   {line}", flush=True)

    story.chapter(
        "The next backup notices, and loses nothing",
        "It ends with 3, incomplete: a repository is missing from the list, and one missing entry does "
        "not prove that it was deleted. Its copy is kept either way.",
    )
    story.run("backup", expect=3)
    story.run("diff", f"{SLUG}/{REWRITTEN}", first, "latest")

    story.chapter("What was lost comes back", "The deleted repository, and the other as it was before.")
    story.run("restore", f"{SLUG}/{LOST}", "--to", str(restored / LOST))
    story.run("restore", f"{SLUG}/{REWRITTEN}", "--at", first, "--to", str(restored / REWRITTEN))
    story.chapter("Compared with what upstream had before the accident")
    for name in (LOST, REWRITTEN):
        story.compare(name, before[name], restored / name)

    story.chapter("Pull requests are there, too")
    story.run("show", f"{SLUG}/{LOST}", "pull-requests/")
    story.chapter("And the store itself is whole")
    story.run("verify")


def run(context: Context, command: Command) -> int:
    """Tell the story; returns 0 where everything went as it should."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mirror-demo-"))
    keep: bool = context.options.keep
    try:
        world = World(folder / "upstream")
        populate(world)
        token = world.add_workspace_access_token(SLUG, SCOPES)
        with Simulator(world) as simulator:
            config = write_config(folder, store=folder / "store", token=token, simulator=simulator)
            story = Story(command, config)
            print(f"A Bitbucket simulated on this machine, with the workspace {SLUG}.", flush=True)
            tell(story, world, folder)
            print(f"\n== The end, after {time.monotonic() - began:.0f} s", flush=True)
            for failure in story.failures:
                print(f"   NOT as it should be: {failure}", flush=True)
            if not story.failures:
                print("   Everything that was lost came back as it was.", flush=True)
            if keep:
                _wait(folder, config, simulator)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if story.failures else 0


def _wait(folder: Path, config: Path, simulator: Simulator) -> None:
    """Leave everything up until somebody has seen enough."""
    print(
        f"\nThe store is at {folder / 'store'}, the simulated Bitbucket at {simulator.api_url}.\n"
        f"Look around with: mirror status -c {config}\n"
        f"Press Ctrl-C to stop the simulator; {folder} stays until you delete it.",
        flush=True,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
