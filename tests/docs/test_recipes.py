"""Every recipe in the docs does what its page says, on a store whose names are difficult for shells."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.model import Head, Refs
from mirror.store.format import refs_document
from tests.extract.made import LFS_OBJECT, LOG, Made, blob, commit, pointer_to, sha256, tree
from tests.git.backend import git, need_git
from tests.store.helpers import ACME, START, MovedClock, open_store, take

pytestmark = pytest.mark.git
DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = [
    b"refs/heads/it's-mine", b'refs/heads/say-"hello"', "refs/heads/wide\u2003space".encode(),
    b"refs/heads/latin-\xe9\xa0", b"refs/heads/$HOME;`date`", b"refs/tags/%s-\xff", b"refs/heads/-n",
    b"refs/changes/1", b"refs/heads/a&b|c>d",
]  # fmt: skip
# Recipes with one of these words are run by `test_into_bitbucket`, on a whole workspace.
INTO_BITBUCKET = ("bitbucket:", "mirror drill")
# Those of these pages are run by `test_hooks`, `test_page` and tests/cluster/test_docs.py.
HOOKS, PAGE, CLUSTER = "hooks.md", "page.md", "cluster.md"
# Run by `test_offsite`, with a server for object storage.
OFFSITE, OBJECT_STORAGE = "offsite.md", "reader.curl"
# Pages that are one task, from the first command to the last: `test_tasks` runs them.
TASKS = frozenset({
    "drill.md", "erasing.md", "first-backup.md", "moving.md", "requests.md", "retention.md",
    "upgrading.md",
})  # fmt: skip
# The names of the pages' examples.
STORED = "4d/4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
SNAPSHOT, FOLDER, WORKSPACE = "20261123T020000Z", "website~5e6f7a8b", "acme~1a2b3c4d"


def recipes(page: str) -> list[str]:
    """The shell commands on a page, block by block."""
    return [code for kind, code in BLOCK.findall((DOCS / page).read_text()) if kind == "sh"]


def is_into_bitbucket(code: str) -> bool:
    return any(word in code for word in INTO_BITBUCKET)


def all_recipes() -> list[tuple[str, int]]:
    """Every recipe but those into Bitbucket, by page and number."""
    return [
        (page.name, number)
        for page in sorted(DOCS.glob("*.md"))
        if page.name not in TASKS | {HOOKS, PAGE, OFFSITE, CLUSTER}
        for number, code in enumerate(recipes(page.name))
        if not is_into_bitbucket(code) and OBJECT_STORAGE not in code
    ]


class World:
    """A store at a path with a space, and a folder in which to run recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = Made(folder / "a store", MovedClock())
        self.refs: dict[bytes, str] = {}
        self.pins: dict[int, str] = {}
        self.head = Head("symref", b"refs/heads/main")

    async def fill(self, head: Head | None = None) -> None:
        code = (await self.made.add("website", 1)).path / "code.git"
        main = git("rev-parse", "refs/heads/main", cwd=code).strip()
        top = tree(code, (b"100644", b"a.bin", blob(code, pointer_to(LFS_OBJECT))))
        self.refs = {b"refs/heads/main": main}
        self.refs |= {name: commit(code, top, main, message=str(n)) for n, name in enumerate(NAMES)}
        self.pins = {12: commit(code, top, message="a head")}
        pull_requests = {"pull-requests/0/12.json": {"pull_request": {"id": 12}}}
        if head is not None and head.kind == "detached":
            head = Head("detached", commit(code, top, message="detached").encode())
            git("update-ref", f"refs/mirror/keep/{head.value.decode()}", head.value.decode(), cwd=code)
        self.head = head or self.head
        await self.made.add(
            "website", 1, refs=self.refs, pins=self.pins, head=Refs(self.refs, self.head), lfs=True,
            documents=pull_requests,
        )  # fmt: skip
        self.made.path.joinpath("INDEX.md").touch()
        with open_store(self.made.path) as store:
            await take(store.adopt_workspace(ACME, START), {"workspace.json": {}}, self.made.clock)

    def follow(
        self, code: str, *, shell: str = "sh", locale: str = "C.UTF-8"
    ) -> subprocess.CompletedProcess[str]:
        """Run a recipe unchanged, except that this store's names replace the page's."""
        folder = self.made.folder("website")
        out = self.folder / "tmp"
        out.mkdir(exist_ok=True)
        log = sha256(LOG)
        store = shlex.quote(str(self.made.path))
        changes = {
            "STORE": store,
            "/mnt/backup": store,
            WORKSPACE: folder.workspace_folder,
            FOLDER: folder.folder,
            SNAPSHOT: self.made.snapshot("website").id,
            "2026-11-01": self.made.snapshot("website").id,
            "WHEN": "latest",
            "/tmp/": f"{out}/",
            STORED: f"{log[:2]}/{log}",
            "https://git.example.org/": f"file://{out}/host/",
        }
        code = re.sub("|".join(map(re.escape, changes)), lambda found: changes[found[0]], code)
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(out), "LC_ALL": locale, "PYTHONPATH": str(DOCS.parent)}
        return subprocess.run(
            [shell, "-eu", "-c", code], cwd=out, env=environment, capture_output=True, text=True,
            errors="surrogateescape", check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    need_git()
    if shutil.which("jq") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have jq")
        pytest.skip("jq is not installed")
    found = World(tmp_path_factory.mktemp("recipes"))
    asyncio.run(found.fill())
    (found.folder / "bin").mkdir()
    command = found.folder / "bin" / "mirror"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mirror "$@"\n')
    command.chmod(0o755)
    return found


@pytest.fixture(autouse=True)
def _afresh(world: World) -> None:
    """Start each recipe in an empty folder that has an empty repository of a git server."""
    shutil.rmtree(world.folder / "tmp", ignore_errors=True)
    (world.folder / "tmp").mkdir()
    git("init", "-q", "--bare", str(world.folder / "tmp" / "host" / "website.git"))


@pytest.mark.parametrize(("page", "number"), all_recipes())
def test_each_recipe_works(world: World, page: str, number: int) -> None:
    code = recipes(page)[number]
    # A recipe that works in a clone or a restore needs the result of an earlier recipe.
    before = {"git -C code": 1, "cd /tmp/website-metadata\nfind": 2}
    for begin, back in before.items():
        if code.startswith(begin):
            earlier = recipes(page)[number - back]
            assert world.follow(earlier).returncode == 0
    done = world.follow(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fatal" not in done.stderr and "parse error" not in done.stderr, done.stderr


def by_hand() -> str:
    [found] = [one for one in recipes("store-format.md") if "--stdin" in one]
    return found


def check_restored(world: World) -> None:
    """Check that the recipe restored every ref by name and value, HEAD, heads of pull requests and LFS
    objects."""
    new = world.folder / "tmp" / "website.git"
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=new).encode(
        "utf-8", "surrogateescape"
    )
    got = {name: value.decode() for value, _, name in (line.partition(b" ") for line in lines.splitlines())}
    pin = {b"refs/mirror/pull-requests/12/from": world.pins[12]}
    kept = {b"refs/mirror/keep/" + world.head.value: world.head.value.decode("ascii", "replace")}
    assert got == world.refs | pin | (kept if world.head.kind == "detached" else {})
    stands = b"ref: " + world.head.value if world.head.kind != "detached" else world.head.value
    assert (new / "HEAD").read_bytes().strip() == stands
    oid = sha256(LFS_OBJECT)
    assert (new / "lfs/objects" / oid[:2] / oid[2:4] / oid).read_bytes() == LFS_OBJECT
    assert git("fsck", "--full", "--no-dangling", cwd=new) == ""


@pytest.mark.parametrize(("shell", "locale"), [("sh", "C.UTF-8"), ("sh", "C"), ("bash", "C.UTF-8")])
def test_the_code_comes_back_by_hand(world: World, shell: str, locale: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    done = world.follow(by_hand(), shell=shell, locale=locale)
    assert (done.returncode, done.stderr) == (0, "")
    check_restored(world)


@pytest.mark.parametrize(
    "head", [Head("detached", b"1" * 40), Head("unborn", b"refs/heads/caf\xe9"), Head("symref", NAMES[0])]
)
async def test_so_it_does_sharded_and_with_any_head(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Head
) -> None:
    monkeypatch.setattr(refs_document, "REFS_MAX", 3)
    other = World(tmp_path)
    await other.fill(head)
    shown = git("show", f"{other.made.snapshot('website').id}:refs.json",
                cwd=other.made.folder("website").metadata.path)  # fmt: skip
    assert "sharded" in shown
    done = other.follow(by_hand())
    told = [line for line in done.stderr.splitlines() if "unborn branch" not in line]
    assert (done.returncode, told) == (0, [])
    check_restored(other)


def test_a_stored_file_is_the_one_that_the_documents_name(world: World) -> None:
    found = recipes("store-format.md")
    [clone] = [one for one in found if "git log -p" in one]
    [files] = [one for one in found if "gunzip" in one]
    assert world.follow(clone).returncode == 0
    told = world.follow(files).stdout
    assert f'{sha256(LOG)} {len(LOG)} "build.log"' in told
    assert hashlib.sha256((world.folder / "tmp" / "build.log").read_bytes()).hexdigest() == sha256(LOG)


def test_another_user_is_let_in_only_so(world: World) -> None:
    """Uses git's own test switch: git treats the store as if it belonged to another user."""
    stranger = "export GIT_TEST_ASSUME_DIFFERENT_OWNER=1\n"
    plain = world.follow(
        f"{stranger}git -C STORE/workspaces/{WORKSPACE}/repositories/{FOLDER}/metadata.git log"
    )
    assert plain.returncode != 0 and "dubious ownership" in plain.stderr
    found = [one for one in recipes("store-format.md") if "safe" in one]
    assert len(found) == 3
    for code in found:
        shutil.rmtree(world.folder / "tmp" / "acme", ignore_errors=True)
        done = world.follow(stranger + code)
        assert done.returncode == 0, done.stderr


def test_no_recipe_hides_in_a_block_of_another_kind() -> None:
    for page in DOCS.glob("*.md"):
        for kind, code in BLOCK.findall(page.read_text()):
            words = [line.split()[0] for line in code.splitlines() if line.strip()]
            assert kind == "sh" or not {"git", "cd", "jq", "python3", "$"} & set(words), (
                f"{page.name}: {code}"
            )
