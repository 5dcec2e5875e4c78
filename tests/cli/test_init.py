"""Mirror creates a store only on request; without a store, every command says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mirror.store.reading.reader import Store
from tests.e2e.helpers import json_of, mirror
from tests.place import Place


@pytest.fixture
def unmounted(place: Place) -> Path:
    """A configuration whose store is on a disk that is not mounted: its mount point is empty."""
    shutil.rmtree(place.config.store)
    place.config.store.mkdir()
    path = place.folder / "config.yaml"
    path.write_text(path.read_text() + "retention: {keep_last: 1}\nschedule: {backup: every 4h}\n")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("backup",),
        ("backup", "--dry-run"),
        ("backup", "acme/website"),
        ("daemon",),
        ("status",),
        ("verify",),
        ("prune",),
        ("accept-loss", "acme"),
        ("erase", "acme/website", "--reason", "a test", "--yes"),
        ("snapshots", "acme/website"),
        ("restore", "acme/website", "--to", "{to}"),
        ("export", "acme/website", "--to", "{to}"),
        ("doctor",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_disk_that_is_not_mounted_ends_with_10(unmounted: Path, words: tuple[str, ...]) -> None:
    target = str(unmounted.parent / "to")
    done = mirror(*[word.replace("{to}", target) for word in words], "-c", str(unmounted))
    assert done.returncode == 10, done.stdout + done.stderr
    told = done.stdout + done.stderr
    assert "mount the disk" in told and f"mirror init --store {unmounted.parent / 'store'}" in told
    assert list((unmounted.parent / "store").iterdir()) == []


def test_init_makes_a_store_once_and_says_what_comes_next(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "store"
    first = mirror("init", "--store", str(store), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"mirror backup --workspace NAME --store {store}" in first.stdout
    with Store.open(store) as opened:
        identity = opened.id
    again = mirror("init", "--store", str(store), "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (json_of(again)["made"], json_of(again)["id"]) == (False, identity)
    assert mirror("status", "--store", str(store)).returncode == 0


def test_init_makes_the_store_of_the_configuration(unmounted: Path) -> None:
    done = mirror("init", "-c", str(unmounted))
    assert done.returncode == 0, done.stderr
    assert f"mirror backup -c {unmounted}" in done.stdout
    assert mirror("backup", "-c", str(unmounted)).returncode == 0


def test_backup_makes_a_store_where_it_is_asked_to(unmounted: Path) -> None:
    dry = mirror("backup", "--init", "--dry-run", "-c", str(unmounted))
    assert dry.returncode == 0, dry.stderr
    assert list((unmounted.parent / "store").iterdir()) == []
    for _ in range(2):
        done = mirror("backup", "--init", "-c", str(unmounted))
        assert done.returncode == 0, done.stderr


def test_init_accepts_a_fresh_disk_and_refuses_a_folder_with_other_things(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    (disk / "lost+found").mkdir(parents=True)
    other.mkdir()
    (other / "thesis.odt").write_text("mine")
    assert mirror("init", "--store", str(disk)).returncode == 0
    refused = mirror("init", "--store", str(other))
    assert refused.returncode == 2 and "thesis.odt" in refused.stderr
    assert [one.name for one in other.iterdir()] == ["thesis.odt"]


@pytest.mark.parametrize("words", [("status",), ("init",), ("backup", "--init")])
async def test_a_store_without_its_own_file_is_damaged_and_not_absent(
    place: Place, words: tuple[str, ...]
) -> None:
    await place.run("acme/website")
    (place.config.store / "store.json").unlink()
    done = mirror(*words, "-c", str(place.folder / "config.yaml"))
    assert done.returncode == 4, done.stdout + done.stderr
    assert not (place.config.store / "store.json").exists()
