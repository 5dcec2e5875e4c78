"""Merging the packs of documents: nothing is lost, C git agrees, and similar documents take little space."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.git.documents import repack as joining
from mirror.git.documents.repository import Documents
from tests.git.backend import git, need_git

WHEN = datetime(2026, 11, 23, tzinfo=UTC)


def history(path: Path, snapshots: int, seed: int) -> tuple[list[str], int]:
    """Snapshots of documents that grow, change back, appear and disappear; returns their trees, and the bytes
    of all packs."""
    rng = random.Random(seed)
    texts = {f"things/{n // 10}/{n}.json": f"{rng.random()}\n" * 200 for n in range(40)}
    trees: list[str] = []
    tip = None
    with Documents.create(path) as documents:
        for number in range(snapshots):
            edit = documents.edit(trees[-1] if trees else None)
            for name in sorted(texts) if number == 0 else rng.sample(sorted(texts), 4):
                match rng.randrange(4):
                    case 0:
                        texts[name] += f"line {number}\n"
                    case 1:
                        texts[name] = texts[name].replace("0", "1", 1)
                    case 2:
                        texts[name] = "the same again\n" * 300
                    case 3 if number:
                        edit.remove(name)
                        continue
                edit.put(name, texts[name].encode())
            tip = edit.commit(
                ref="refs/heads/main", tag=f"t{number}", message=f"{number}\n", when=WHEN, parent=tip
            )
            trees.append(documents.tree_of(tip))
    return trees, sum(one.stat().st_size for one in (path / "objects" / "pack").glob("*.pack"))


def content(path: Path, trees: list[str]) -> list[dict[str, bytes]]:
    with Documents(path) as documents:
        return [{name: documents.blob(blob) for name, blob in documents.blobs(tree)} for tree in trees]


@pytest.mark.git
@pytest.mark.parametrize("seed", range(3))
def test_every_document_of_every_snapshot_is_there_and_git_finds_no_fault(tmp_path: Path, seed: int) -> None:
    need_git()
    path = tmp_path / "metadata.git"
    trees, before = history(path, 120, seed)
    expected = content(path, trees)
    assert joining.consolidate(path) > joining.PACKS_MAX
    assert joining.consolidate(path) == 0
    packs = list((path / "objects" / "pack").glob("*.pack"))
    assert len(packs) == 1
    assert content(path, trees) == expected
    assert packs[0].stat().st_size < before * 0.6
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=path) == ""
    told = git("verify-pack", "-v", str(packs[0].with_suffix(".idx")), cwd=path)
    depths = [int(line.split()[5]) for line in told.splitlines() if len(line.split()) == 7]
    assert depths and max(depths) <= joining.DEPTH_MAX


@pytest.mark.git
def test_the_newest_version_is_whole(tmp_path: Path) -> None:
    """So that the most frequently read version needs no delta."""
    need_git()
    path = tmp_path / "metadata.git"
    lines = [f"line {n}\n" for n in range(500)]
    with Documents.create(path) as documents:
        tip = tree = None
        for number in range(60):
            edit = documents.edit(tree)
            lines[number] = f"changed {number}\n"
            edit.put("a.json", "".join(lines).encode())
            tip = edit.commit(ref="refs/heads/main", tag=None, message="m\n", when=WHEN, parent=tip)
            tree = documents.tree_of(tip)
        assert tree is not None
        newest = documents.find(tree, "a.json")
    joining.consolidate(path)
    [pack] = (path / "objects" / "pack").glob("*.idx")
    told = git("verify-pack", "-v", str(pack), cwd=path).splitlines()
    assert newest is not None
    [line] = [one for one in told if one.startswith(newest[1])]
    assert len(line.split()) == 5  # no depth and no base


def test_a_damaged_object_stops_it_and_nothing_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "metadata.git"
    history(path, 60, 1)
    packs = sorted((path / "objects" / "pack").glob("*.pack"))
    victim = max(packs, key=lambda one: one.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.chmod(0o600)
    victim.write_bytes(data)
    with pytest.raises(Exception, match="damaged"):
        joining.consolidate(path)
    assert sorted((path / "objects" / "pack").glob("*.pack")) == packs
