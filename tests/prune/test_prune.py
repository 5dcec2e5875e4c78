"""Prune removes exactly what retention says, frees the bytes, and leaves the rest complete."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror import prune, verify
from mirror.errors import NoStore, UsageError
from mirror.model import Run, Selector
from mirror.simulator import Fault
from mirror.store.reading.reader import RepositoryFolder
from tests.place import Place


async def let_go(place: Place, *selectors: str, dry_run: bool = False) -> Run:
    place.clock.elapsed += 60
    return await prune.prune(
        place.config,
        [Selector.parse(text) for text in selectors],
        clock=place.clock,
        environment=os.environ,
        dry_run=dry_run,
    )


async def sound(place: Place) -> Run:
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert run.facts["findings"] == []
    return run


def folder_of(place: Place, name: str) -> RepositoryFolder:
    with place.store() as store:
        return store.repository(Selector.parse(name))


def git(*words: str, cwd: Path) -> str:
    done = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


async def rewritten_often(place: Place, times: int = 5) -> list[str]:
    """Force-push a branch before each of these backups; returns its values."""
    website, values = place.acme.repositories["website"], []
    for number in range(times):
        value = website.commit(
            "spike", {"spike.bin": os.urandom(30_000)}, f"Spike {number}\n",
            author=("Ann Archer", "ann@acme.example"), when=place.clock.now(), parents=(),
        )  # fmt: skip
        website.force("spike", value)
        values.append(value)
        assert (await place.run()).exit_code == 0
    return values


async def test_what_goes_was_foretold_and_the_rest_is_whole(place: Place) -> None:
    values = await rewritten_often(place)
    before = folder_of(place, "acme/website")
    ids = list(before.metadata.tags())
    trees = {one.id: one.tree for one in before.metadata.snapshots()}
    foretold = await let_go(place, dry_run=True)
    assert list(folder_of(place, "acme/website").metadata.tags()) == ids, "a dry run changes nothing"
    run = await let_go(place)
    assert run.exit_code == 0
    entries = {one.full_name: one for one in run.entries}
    told = {one.full_name: one for one in foretold.entries}
    assert list(entries["acme/website"].facts["dropped"]) == ids[:-2]
    assert told["acme/website"].facts["dropped"] == entries["acme/website"].facts["dropped"]
    assert told["acme/website"].facts["decisions"] == entries["acme/website"].facts["decisions"]
    # Prune removed three blobs of 30,000 random bytes; repacking may change the predicted size a little.
    freed, expected = entries["acme/website"].facts["freed"], told["acme/website"].facts["freed"]
    assert freed["code"] > 85_000
    assert abs(freed["code"] - expected["code"]) < 8_000
    folder = folder_of(place, "acme/website")
    assert {one.id: one.tree for one in folder.metadata.snapshots()} == {one: trees[one] for one in ids[-2:]}
    assert git("cat-file", "-t", values[-2], cwd=folder.code).strip() == "commit"
    for gone in values[:-2]:
        with pytest.raises(subprocess.CalledProcessError):
            git("cat-file", "-e", gone, cwd=folder.code)
    assert git("fsck", "--full", cwd=folder.code) == ""
    assert git("rev-list", "--count", "main", cwd=folder.metadata.path).strip() == "2"
    await sound(place)
    assert (await place.run()).exit_code == 0
    await sound(place)


async def test_a_pruned_snapshot_is_told_from_a_lost_one(place: Place) -> None:
    await rewritten_often(place, 4)
    # Killed after it removed the tags and before the run record: the folder itself shows it.
    run = await let_go(place)
    (place.config.store / f"runs/{run.id}.json").unlink()
    (place.config.store / "cache/last-run.json").unlink()
    await sound(place)
    folder = folder_of(place, "acme/website")
    path = folder.metadata.path / "packed-refs"
    victim = next(iter(folder.metadata.tags()))
    path.write_text(
        "".join(line for line in path.read_text().splitlines(True) if f"tags/{victim}" not in line)
    )
    damaged = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert damaged.exit_code == 4
    assert any(victim in one["snapshots"] for one in damaged.facts["findings"])


async def test_nothing_goes_where_the_newest_snapshot_lacks_something(place: Place) -> None:
    await rewritten_often(place, 4)
    place.simulator.faults.order(Fault("*/pullrequests*", status=403, times=1000))
    place.acme.repositories["website"].set_head("spike")
    broken = await place.run()
    assert broken.exit_code != 0
    ids = list(folder_of(place, "acme/website").metadata.tags())
    run = await let_go(place, "acme/website")
    [entry] = run.entries
    assert (str(entry.outcome), run.exit_code) == ("kept", 0)
    assert "pull_requests is denied" in entry.facts["reason"]
    assert list(folder_of(place, "acme/website").metadata.tags()) == ids
    # With accept_missing, prune continues.
    agreed = replace(place.config.workspaces[0], accept_missing=("pull_requests", "issues"))
    place.config = replace(place.config, workspaces=(agreed,))
    assert len((await let_go(place, "acme/website")).entries[0].facts["dropped"]) == 3


async def test_a_repository_gone_upstream_is_kept_longer(place: Place) -> None:
    website = place.acme.repositories["billing"]
    for number in range(4):
        website.commit("main", {"n": b"%d" % number}, "More\n", author=("A", "a@x"), when=place.clock.now())
        await place.run()
    place.acme.delete_repository("billing")
    for _ in range(4):
        place.clock.elapsed += timedelta(days=1).total_seconds()
        await place.run()
    assert folder_of(place, "acme/billing").gone_since is not None
    [entry] = (await let_go(place, "acme/billing")).entries
    assert "gone upstream" in entry.facts["reason"]
    place.clock.elapsed += timedelta(days=91).total_seconds()
    [entry] = (await let_go(place, "acme/billing")).entries
    assert len(entry.facts["dropped"]) == 2
    await sound(place)


async def test_old_step_logs_go_and_their_pointers_stay(place: Place) -> None:
    await place.run()
    folder = folder_of(place, "acme/website")
    assert folder.metadata.latest() is not None
    others = {hashlib.sha256(one.content).hexdigest() for one in place.acme.repositories["website"].downloads}
    held = {one.sha256: one.path.stat().st_size for one in folder.files()}
    logs = held.keys() - others
    assert logs and others
    foretold = await let_go(place, "acme/website", dry_run=True)
    size = sum(held[one] for one in logs)
    assert foretold.entries[0].facts["freed"]["files"] == size
    run = await let_go(place, "acme/website")
    assert run.entries[0].facts["logs"] == len(logs)
    folder = folder_of(place, "acme/website")
    assert {one.sha256 for one in folder.files()} == others
    assert set(folder.dropped()) == logs
    await sound(place)
    # A backup does not fetch them again, and nothing changed.
    place.simulator.requests.clear()
    assert {str(one.outcome) for one in (await place.run()).entries} == {"confirmed"}
    assert not [one for one in place.simulator.requests if "/log" in str(one)]
    assert (await let_go(place, "acme/website")).entries[0].facts["logs"] == 0


async def test_a_tripped_brake_stops_it(place: Place) -> None:
    website = place.acme.repositories["website"]
    for number in range(12):
        tip = website.branch("main")
        assert tip is not None
        website.set_ref(b"refs/heads/topic-%d" % number, tip)
    await rewritten_often(place, 4)
    for number in range(12):
        website.delete_ref(b"refs/heads/topic-%d" % number)
    tripped = await place.run()
    assert tripped.exit_code == 5
    assert "refs fell from" in tripped.problems[0].text
    ids = list(folder_of(place, "acme/website").metadata.tags())
    run = await let_go(place)
    assert run.exit_code == 5
    assert {str(one.outcome) for one in run.entries} == {"kept"}
    assert list(folder_of(place, "acme/website").metadata.tags()) == ids
    assert (await place.run()).exit_code == 5, "until somebody accepts it"
    await sound(place)
    accepted = await prune.accept_loss(
        place.config.store, Selector.parse("acme/website"), by="ann", clock=place.clock
    )
    assert {str(one.outcome) for one in accepted.entries} == {"accepted"}
    place.clock.elapsed += 5
    assert (await place.run()).exit_code == 0
    assert (await let_go(place)).exit_code == 0
    with place.store() as store:
        [one] = store.repository(Selector.parse("acme/website")).brake().releases
        assert (one.by, one.loss.name) == ("ann", "acme/website")
    await sound(place)


async def test_repositories_that_vanish_trip_the_brake(place: Place) -> None:
    for number in range(8):
        place.acme.add_repository(f"extra-{number}", project="DOCS")
    assert (await place.run()).exit_code == 0
    for number in range(6):
        place.acme.delete_repository(f"extra-{number}")
    run = await place.run()
    assert run.exit_code == 5
    assert "repositories fell from 12 to 6" in run.problems[0].text


async def test_without_git_it_says_that_bytes_remain(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await rewritten_often(place, 4)
    empty = place.folder / "no-git-here"
    empty.mkdir()
    run = await prune.prune(place.config, clock=place.clock, environment={"PATH": str(empty)})
    entry = next(one for one in run.entries if one.full_name == "acme/website")
    assert len(entry.facts["dropped"]) == 2
    assert entry.facts["freed"]["code"] is None
    await sound(place)


async def test_it_finishes_what_was_begun(place: Place) -> None:
    await rewritten_often(place, 4)
    await let_go(place)
    folder = folder_of(place, "acme/website")
    pruned = folder.pruned()
    assert pruned is not None
    assert pruned.done
    from mirror.fs.durable import write_file
    from mirror.store.format.seal import sealed

    write_file(
        place.config.store / folder.relative("pruned.json"), sealed(replace(pruned, done=False).to_json())
    )
    await let_go(place)
    again = folder_of(place, "acme/website").pruned()
    assert again is not None
    assert again.done
    await sound(place)


async def test_a_damaged_mirror_is_left_alone(place: Place) -> None:
    await rewritten_often(place, 4)
    folder = folder_of(place, "acme/website")
    packed = folder.code / "packed-refs"
    packed.write_text("".join(line for line in packed.read_text().splitlines(True) if "keep/" not in line))
    ids = list(folder.metadata.tags())
    run = await let_go(place, "acme/website")
    assert run.exit_code != 0
    assert list(folder_of(place, "acme/website").metadata.tags()) == ids


async def test_no_retention_and_no_store_are_said(place: Place) -> None:
    store = place.config.store
    place.config = replace(place.config, store=place.folder / "nowhere")
    with pytest.raises(NoStore):
        await let_go(place)
    place.config = replace(place.config, store=store)
    none = replace(place.config.workspaces[0], retention=None)
    place.config = replace(place.config, workspaces=(none,))
    with pytest.raises(UsageError, match="no retention"):
        await let_go(place)
