"""`mirror demo`: back up a simulated workspace, damage it upstream, and restore it.

The demo runs real commands: each line after a `$` goes to the same `main` as from a shell, against a
Bitbucket simulated on this machine. Only the accident is staged.
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
WIDTH = 78


class Story:
    """Runs commands and prints them; collects what did not go as expected in `failures`."""

    def __init__(self, command: Command, config: Path) -> None:
        self._command = command
        self._config = config
        self.failures: list[str] = []

    def chapter(self, title: str, text: str = "") -> None:
        """Print a heading, and what happens next."""
        print(f"\n== {title}", flush=True)
        if text:
            print(textwrap.fill(text, WIDTH), flush=True)

    def run(self, *words: str, expect: int = 0) -> None:
        """Run a command with its output shown; note an exit code other than the expected one."""
        print(f"\n$ mirror {shlex.join(words)}\n", flush=True)
        code = self._command([*words, "--config", str(self._config), "--quiet"])
        print(f"[exit code {code}]", flush=True)
        if code != expect:
            self.failures.append(f"mirror {words[0]} ended with {code}, not {expect}")

    def compare(self, what: str, before: dict[bytes, str], restored: Path) -> None:
        """Compare a restored repository with what upstream had before the accident."""
        after = dict(fetch.read_refs(restored / CODE).refs)
        print(f"   {what}: {len(before)} refs before the accident, {len(after)} restored: ", end="")
        print("identical" if after == before else "DIFFERENT", flush=True)
        if after != before:
            self.failures.append(f"{what} was restored differently")


def write_config(folder: Path, *, store: Path, token: str, simulator: Simulator) -> Path:
    """Write a configuration file, with the token in a file of its own; returns its path."""
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


def play(story: Story, world: World, folder: Path) -> None:
    """The whole demo: backup, accident, backup, diff, restore, comparison."""
    repositories = world.workspaces[SLUG].repositories
    before = {name: repositories[name].refs() for name in (LOST, REWRITTEN)}
    restored = folder / "restored"
    story.chapter("Back up a workspace", "Every repository, with its pull requests and pipelines.")
    story.run("init")
    story.run("backup")
    first = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1)  # snapshot times have a resolution of one second

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

    story.chapter("Restore what was lost", "The deleted repository, and the other one as it was before.")
    story.run("restore", f"{SLUG}/{LOST}", "--to", str(restored / LOST))
    story.run("restore", f"{SLUG}/{REWRITTEN}", "--at", first, "--to", str(restored / REWRITTEN))
    story.chapter("Compared with what upstream had before the accident")
    for name in (LOST, REWRITTEN):
        story.compare(name, before[name], restored / name)

    story.chapter("Pull requests are there too")
    story.run("show", f"{SLUG}/{LOST}", "pull-requests/")
    story.chapter("And the store is undamaged")
    story.run("verify")


def run(context: Context, command: Command) -> int:
    """Run the demo; returns 0 where everything went as expected."""
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
            play(story, world, folder)
            print(f"\n== The end, after {time.monotonic() - began:.0f} s", flush=True)
            for failure in story.failures:
                print(f"   NOT as expected: {failure}", flush=True)
            if not story.failures:
                print("   Everything that was lost was restored as it was.", flush=True)
            if keep:
                _wait(folder, config, simulator)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if story.failures else 0


def _wait(folder: Path, config: Path, simulator: Simulator) -> None:
    """Keep everything running until the process is stopped."""
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
