"""Draws docs/pictures/terminal.svg: what a person sees in the middle of a backup.

    python -m tests.docs.picture

A workspace of some sixty repositories is backed up from the simulator, by the program itself, on a terminal
of 80 columns. The picture is what stands there when most of them are done.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.cli.screen import Screen
from tests.e2e.helpers import write_config

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "terminal.svg"
COLUMNS = 80
# The picture is taken when so many repositories are done, and so many are worked on.
DONE, ACTIVE = 33, 5
SERVICES = ("account", "basket", "cart", "checkout", "customer", "delivery", "email", "gateway", "stock")
KINDS = ("api", "service", "tests", "web", "worker")


def main() -> None:
    """Take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "upstream")
        populate(world)
        workspace = world.workspaces["acme"]
        for name in (f"{service}-{kind}" for service in SERVICES for kind in KINDS):
            repository = workspace.add_repository(name)
            for number in range(20):
                files = {f"src/{number}/{one}.py": os.urandom(400).hex().encode() for one in range(12)}
                repository.commit("main", files, f"Change {number}\n", author=("Ann", "ann@acme.example"))
        token = world.add_workspace_access_token("acme", SCOPES)
        with Simulator(world, switches=Switches(deprecation_headers=False)) as simulator:
            limits = "limits: {api_limit: 10000}\n"
            config = write_config(Path(folder), simulator, token, more=limits)
            screen = _watch(["mirror", "backup", "-c", "config.yaml"], config.parent)
    console = Console(width=COLUMNS, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    console.print(Text("$ mirror backup", style="bold"))
    console.print(Text.from_ansi(screen.ansi()), end="")
    svg = console.export_svg(title="mirror backup")
    # A picture asks no server for its letters.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def _watch(words: list[str], folder: Path) -> Screen:
    """The screen of a command when enough repositories are done; then it is stopped."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    running = subprocess.Popen(
        [sys.executable, "-m", *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(PICTURE.parents[2]), "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        },
    )  # fmt: skip
    os.close(theirs)
    screen = Screen(COLUMNS)
    while chunk := os.read(ours, 65536):
        screen.feed(chunk.decode("utf-8", "replace"))
        lines = screen.text()
        found = re.search(r"Backing up: (\d+) of", "\n".join(lines))
        if found and int(found[1]) >= DONE and sum(line.startswith("  acme/") for line in lines) >= ACTIVE:
            break
    running.kill()
    running.wait()
    os.close(ours)
    return screen


if __name__ == "__main__":
    main()
