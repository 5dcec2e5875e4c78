"""Bash, zsh and fish complete what is in the store, each driven as it really completes."""

from __future__ import annotations

import asyncio
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror import completion
from mirror.browse.find import KINDS
from mirror.cli import arguments, parser, shells
from mirror.restore import PARTS
from tests.extract.made import Made
from tests.git.backend import need_git
from tests.store.helpers import MovedClock, open_store

pytestmark = pytest.mark.git
ROOT = Path(__file__).parents[2]
PULL_REQUEST = {"pull_request": {"id": 12}}


@dataclass(frozen=True)
class World:
    """A store at a path with a space, a configuration that names it, and the scripts of each shell."""

    folder: Path
    made: Made

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.folder),
            "TERM": "dumb",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
        }

    def script(self, shell: str) -> Path:
        return self.folder / f"mirror.{shell}"

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert not done.stderr, done.stderr
        return done.stdout


async def _fill(folder: Path) -> World:
    made = Made(folder / "a store", MovedClock())
    await made.add("api", 1, documents={"pull-requests/0/12.json": PULL_REQUEST})
    await made.add("api", 1, documents={"pull-requests/0/12.json": PULL_REQUEST, "a/b.json": {}})
    await made.add("website", 2)
    with open_store(made.path) as store:
        store.rebuild_index(made.clock.now())
    (folder / "config.yaml").write_text("# a comment\nstore: 'a store'   # here\n")
    (folder / "bin").mkdir()
    command = folder / "bin" / "mirror"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mirror "$@"\n')
    command.chmod(0o755)
    found = World(folder, made)
    for shell in ("bash", "zsh", "fish"):
        found.script(shell).write_text(parser.completion(shell))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_git()
    yield asyncio.run(_fill(tmp_path_factory.mktemp("completion")))


def in_bash(world: World, line: str) -> set[str]:
    # Readline splits as a shell does, keeps quotes, and splits at `=` and `:`, too.
    words = shlex.split(line, posix=False)
    script = f"""
        . {world.script("bash")}
        COMP_WORDS=({" ".join(shlex.quote(word) for word in words)}{" ''" if line.endswith(" ") else ""})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        COMP_LINE={shlex.quote(line)}
        _mirror_completion mirror
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(world.run("bash", "--norc", "-c", script).split())


def in_fish(world: World, line: str) -> set[str]:
    script = f"source {world.script('fish')}; complete -C {shlex.quote(line)}"
    return {one.partition("\t")[0] for one in world.run("fish", "-N", "-c", script).splitlines()}


ZSHRC = """
PROMPT='READY>'
autoload -Uz compinit
compinit -u -d $HOME/zcompdump
eval "$(<$HOME/mirror.zsh)"
bindkey '^I' complete-word
zstyle ':completion:*' completer _complete
compadd () {
  local -a hits
  [[ " $* " == *" -O "* || " $* " == *" -A "* || " $* " == *" -D "* ]] && { builtin compadd "$@"; return }
  builtin compadd -O hits "$@"
  print -rl -- $hits >> $HOME/hits
  builtin compadd "$@"
}
finish () { exit }
comppostfuncs=( finish )
"""


def in_zsh(world: World, line: str) -> set[str]:
    """What zsh's line editor completes after `line`, typed on a terminal."""
    hits = world.folder / "hits"
    hits.write_text("")
    (world.folder / ".zshrc").write_text(ZSHRC)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-d", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=world.environment,
        cwd=world.folder, start_new_session=True,
    ) as running:  # fmt: skip
        os.close(theirs)
        seen, is_typed = b"", False
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
                if not is_typed and b"READY>" in seen:
                    is_typed = True
                    os.write(ours, line.encode() + b"\t")
        except OSError:  # Linux returns EIO once the other end is closed
            pass
        finally:
            os.close(ours)
            running.kill()
    assert is_typed, seen
    return set(hits.read_text().split())


DRIVERS = {"bash": in_bash, "fish": in_fish, "zsh": in_zsh}
STORE = "--store 'a store'"


@pytest.fixture(params=sorted(DRIVERS))
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(name) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {name}")
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"mirror status {STORE} ac", {"acme", "acme/api", "acme/website"}),
        ("mirror -c config.yaml verify acme/w", {"acme/website"}),
        (f"mirror show {STORE} acme/api pull", {"pull-requests/"}),
        (f"mirror show {STORE} acme/api pull-requests/1", {"pull-requests/12"}),
        (f"mirror diff {STORE} acme/api up", {"upstream"}),
        (f"mirror restore {STORE} acme/website --only code,wi", {"code,wiki"}),
        (f"mirror find x {STORE} --in com", {"comments"}),
        ("mirror snapshots --store nowhere ac", set()),
    ],
    ids=["selectors", "configuration", "folder", "document", "sides", "parts", "kinds", "no store"],
)
def test_words_are_completed_from_the_store(world: World, shell: str, line: str, expected: set[str]) -> None:
    assert DRIVERS[shell](world, line) == expected


def test_the_snapshots_of_the_selected_repository(world: World, shell: str) -> None:
    taken = {one.id for one in world.made.folder("api").metadata.snapshots()}
    assert DRIVERS[shell](world, f"mirror export {STORE} acme/api --at 2026") == taken


def words(world: World, kind: str, current: str, *typed: str) -> list[str]:
    return world.run("mirror", "completion", "--words", kind, current, *typed).split()


def test_whatever_is_wrong_nothing_is_printed(world: World, tmp_path: Path) -> None:
    assert words(world, "selectors", "", "--store", "/nonexistent") == []
    assert words(world, "no-such-kind", "") == []
    assert world.run("mirror", "completion", "--words") == ""
    assert words(world, "documents", "", "show", "acme/nothing", "--store", "a store") == []
    (tmp_path / "index.json").write_text('{"repositories": [3, {"full_name": 1}], "workspaces": 7}')
    assert words(world, "selectors", "", "--store", str(tmp_path)) == []


def test_a_store_is_named_in_each_way_that_a_command_line_has(world: World) -> None:
    for typed in (
        ["--store", "a store"], ["--store", "=", "a store"], ["--store=a store"], ["-c", "config.yaml"],
        ["--config=config.yaml"], ["--store", "~/a store"], ["--store", '"$HOME/a store"'], [],
    ):  # fmt: skip
        assert words(world, "workspaces", "", *typed) == ["acme"], typed
    found = completion.store_of(["-c", str(world.folder / "config.yaml")], {})
    assert found == world.folder / "a store"


def test_nothing_of_the_program_is_imported_for_names(world: World) -> None:
    program = (
        "import sys; sys.argv = ['mirror', 'completion', '--words', 'selectors', '', '--store', 'a store']\n"
        "from mirror.__main__ import main\nmain(); print(*sys.modules)"
    )
    *found, modules = world.run(sys.executable, "-c", program).splitlines()
    assert found == ["acme", "acme/api", "acme/website"]
    heavy = {"dulwich", "structlog", "rich", "shtab", "asyncio", "argparse", "yaml", "pydantic", "mirror.cli"}
    assert not set(modules.split()) & heavy


def test_the_lists_are_those_of_the_options() -> None:
    assert set(completion.PARTS) == PARTS | arguments.FORGE_PARTS
    assert set(completion.KINDS) == set(KINDS)
    for kind in completion.OFFERS:
        assert f"_mirror_words_{kind}()" in shells.PREAMBLES["bash"], kind
