"""What must be true of a store after an accident, checked by C git and the program's own commands."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.crash.actions import STORE, Scene
from tests.crash.shim import Control
from tests.crash.zygote import Ended

_LEFTOVER = re.compile(r"\.tmp$|\.tmp-|\.new$|^tmp_pack_|^tmp_obj_|^incoming-|^tmp-|\.lock$")
_HARMLESS = re.compile(r"^(dangling|unreachable|notice:|Checking|Verifying) ?")
SECONDS = 30.0

Snapshots = dict[str, dict[str, str]]


def _git(repository: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        ["git", "-C", str(repository), *words],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        },
    )
    return done.returncode, done.stdout + done.stderr


def _repositories(store: Path, name: str) -> Iterator[Path]:
    """The git repositories called `name` that are complete enough for C git to open."""
    for path in sorted((store / "workspaces").rglob(name)):
        if (path / "config").is_file() and _git(path, "rev-parse", "--git-dir")[0] == 0:
            yield path


def snapshots(store: Path, erased: str = "") -> Snapshots:
    """Every tagged snapshot as C git shows it: folder to id to tree.

    With `erased`, a document, the content of the tree without that document stands for the tree.
    """
    found: Snapshots = {}
    for metadata in _repositories(store, "metadata.git"):
        code, text = _git(metadata, "for-each-ref", "--format=%(refname:strip=2) %(tree)", "refs/tags")
        assert code == 0, f"{metadata}: {text}"
        tags = dict(line.split(" ") for line in text.splitlines())
        if erased:
            tags = {tag: _without(metadata, tree, erased) for tag, tree in tags.items()}
        if tags:
            found[str(metadata.parent.relative_to(store))] = tags
    return found


def _without(metadata: Path, tree: str, *paths: str) -> str:
    code, text = _git(metadata, "ls-tree", "-r", tree)
    assert code == 0, text
    return "\n".join(line for line in text.splitlines() if line.partition("\t")[2] not in paths)


def content(store: Path, erased: str = "") -> dict[str, str]:
    """The content of the last snapshot of each folder, without what describes the run that took it."""
    found = {}
    for folder, tags in snapshots(store).items():
        found[folder] = _without(store / folder / "metadata.git", tags[max(tags)], "snapshot.json", erased)
    return found


# The stores of a scene do not change.
_snapshots_of_scene = functools.cache(snapshots)
_content_of_scene = functools.cache(content)


def _hashes(refs: Any) -> Iterator[str]:
    code = refs["code"]
    assert "sharded" not in code, "too many refs for this check"
    yield from code["refs"].values()
    yield from code["pull_requests"].values()
    if code["head"] and "detached" in code["head"]:
        yield code["head"]["detached"]


def check_kept(store: Path) -> None:
    """The rule: every hash that a tagged snapshot names is the direct value of a ref, and everything is
    complete."""
    for folder, tags in snapshots(store).items():
        metadata, mirror = store / folder / "metadata.git", store / folder / "code.git"
        _check_whole(metadata)
        named: set[str] = set()
        for tag in tags:
            code, text = _git(metadata, "show", f"{tag}:refs.json")
            if code == 0:
                named.update(_hashes(json.loads(text)))
        if named:
            code, text = _git(mirror, "for-each-ref", "--format=%(objectname)")
            assert code == 0, f"{mirror}: {text}"
            lost = named - set(text.split())
            assert not lost, f"{folder}: no ref has {lost} as its value, though snapshots name it"
            _check_whole(mirror)


def _check_whole(repository: Path) -> None:
    code, text = _git(repository, "fsck", "--full", "--strict", "--no-progress")
    worse = [line for line in text.splitlines() if not _HARMLESS.match(line)]
    assert code == 0 and not worse, f"git fsck of {repository}: {code} {worse}"


def check_free(store: Path, control: Control | None) -> None:
    """No process remains, and every lock is free."""
    until = time.monotonic() + SECONDS
    while control is not None and (left := [pid for pid in control.pids if _lives(pid, control)]):
        assert time.monotonic() < until, f"processes {left} outlived the run by {SECONDS} s"
        time.sleep(0.01)
    for lock in store.rglob("lock"):
        # The list lacks a worker that had made no step yet; it may be about to die.
        while not _is_free(lock):
            assert time.monotonic() < until, f"{lock} is held {SECONDS} s after the run"
            time.sleep(0.01)


def _is_free(lock: Path) -> bool:
    with lock.open("r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _lives(pid: int, control: Control) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Started below the shim, or forked by the zygote. Another process may have the number by now.
    return state != "Z" and (os.fsencode(control.path) in environment or b"tests.crash.zygote" in words)


def check_untouched(scene: Scene, before: Snapshots, store: Path) -> None:
    """Everything that was restorable is unchanged."""
    erased = scene.action.erases
    now, meant = (
        snapshots(store, erased),
        _snapshots_of_scene(scene.done / STORE, erased) if scene.action.lets_go else {},
    )
    for folder, tags in before.items():
        for tag, tree in tags.items():
            found = now.get(folder, {}).get(tag)
            if not (scene.action.lets_go and found in (None, meant.get(folder, {}).get(tag))):
                assert found == tree, f"{folder}: snapshot {tag} is {found} and was {tree}"


def check_verifies(scene: Scene, place: Path) -> None:
    """`mirror verify` finds nothing in a copy. (It removes temporary files, which the next run must do
    itself.)"""
    if not (place / STORE / "store.json").exists():
        return
    copy = place / "copy"
    shutil.copytree(place / STORE, copy)
    _verify(scene, place, copy, "right after it")
    shutil.rmtree(copy)


def _verify(scene: Scene, place: Path, store: Path, when: str) -> None:
    done = scene.zygote.run(("verify", "--json", "--store", str(store)), folder=place)
    if done.code != 0:
        found = done.json().get("facts", {}).get("findings", done.stderr)
        texts = [f"{one['severity']}: {one['file']}: {one['problem']}" for one in found]
        raise AssertionError(f"verify {when} ends with {done.code}: {texts}")


def check_complete(scene: Scene, store: Path) -> None:
    """The store has the result of the action without an accident."""
    erased = scene.action.erases
    expected, found = _content_of_scene(scene.done / STORE, erased), content(store, erased)
    assert found.keys() == expected.keys(), f"folders {found.keys() ^ expected.keys()}"
    for folder, listing in expected.items():
        assert found[folder] == listing, f"{folder} differs from what a run to the end gives"


def check_after(scene: Scene, place: Path, control: Control | None, ended: Ended | None) -> None:
    """Check everything that must be true after the accident, and again after the next run."""
    store = place / STORE
    before = _snapshots_of_scene(scene.base / STORE, scene.action.erases)
    check_free(store, control)
    check_untouched(scene, before, store)
    check_kept(store)
    check_verifies(scene, place)
    if ended is not None and ended.code == 0:
        check_complete(scene, store)
    there = snapshots(store, scene.action.erases)
    for words in scene.action.next:
        done = scene.zygote.run(words, folder=place)
        assert done.code in scene.action.may_end(words), (
            f"the next {words[0]} ends with {done.code}: {done.stdout} {done.stderr}"
        )
    check_untouched(scene, there, store)
    check_untouched(scene, before, store)
    check_complete(scene, store)
    if scene.action.lets_go:
        erased = scene.action.erases
        assert snapshots(store, erased) == _snapshots_of_scene(scene.done / STORE, erased), (
            "what was to go did not, or more went"
        )
    check_kept(store)
    left = [str(one.relative_to(store)) for one in store.rglob("*") if _LEFTOVER.search(one.name)]
    assert not left, f"the next run left {left}"
    _verify(scene, place, store, "after the next run")
