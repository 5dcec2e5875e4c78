"""Restore and export of several repositories: each comes back as far as possible, and the report names what
is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror import browse, prune, restore
from mirror.errors import UsageError
from mirror.model import NoProgress, Selector
from tests.e2e.helpers import mirror
from tests.place import Place

Told = dict[str, tuple[tuple[int, str], ...]]
OTHERS = {"acme/api", "acme/billing", "acme/handbook", "acme/website"}


async def restored(place: Place, selector: str, target: Path, at: str = "latest") -> tuple[int, Told]:
    report = await restore.run(
        place.config.store, Selector.parse(selector), target=str(target), at=at, environment=os.environ
    )
    return report.exit_code, {item.repository: item.problems for item in report.items}


def exported(place: Place, selector: str, target: Path, at: str = "latest") -> Told:
    found = browse.export(place.config.store, Selector.parse(selector), target, at=at)
    assert all(one.to_json()["repository"] == one.name for one in found)
    return {one.name: one.problems for one in found}


async def test_a_repository_younger_than_the_time_keeps_none_of_the_others_back(
    place: Place, tmp_path: Path
) -> None:
    await place.run()
    then = place.clock.now().isoformat()
    place.clock.elapsed += 3 * 86400
    place.acme.add_repository("newcomer").commit("main", {"a": b"1\n"}, "a\n")
    await place.run()
    for selector, base in (("acme", "restored"), ("acme/*", "by a pattern")):
        code, told = await restored(place, selector, tmp_path / base, then)
        assert code == 3
        assert {name for name, problems in told.items() if not problems} >= OTHERS
        [(code, text)] = told["acme/newcomer"]
        assert code == 3 and "no snapshot at or before" in text
    told = exported(place, "acme", tmp_path / "exported", then)
    assert {name for name, problems in told.items() if not problems} == OTHERS | {"acme"}
    assert [code for code, _ in told["acme/newcomer"]] == [3]
    for base in ("restored", "by a pattern", "exported"):
        assert (tmp_path / base / "acme" / "website").is_dir()
        assert not (tmp_path / base / "acme" / "newcomer").exists()


async def test_an_erased_repository_is_told_as_erased_beside_the_others(place: Place, tmp_path: Path) -> None:
    await place.run()
    await prune.erase(
        place.config.store,
        Selector.parse("acme/billing"),
        prune.ErasureTarget(),
        reason="never ours to keep",
        by="ann",
        clock=place.clock,
        environment=os.environ,
    )
    code, told = await restored(place, "acme", tmp_path / "restored")
    assert code == 3
    for several in (told, exported(place, "acme", tmp_path / "exported")):
        assert {name for name, problems in several.items() if not problems} == OTHERS - {"acme/billing"} | {
            "acme"
        }
        [(code, text)] = several["acme/billing"]
        assert code == 3 and "was erased on" in text and "never ours to keep" in text
    with pytest.raises(UsageError, match="was erased on"):
        await restored(place, "acme/billing", tmp_path / "alone")
    with pytest.raises(UsageError, match="was erased on"):
        exported(place, "acme/billing", tmp_path / "alone")


async def test_a_time_before_everything_is_refused_and_nothing_is_written(
    place: Place, tmp_path: Path
) -> None:
    await place.run()
    for at in ("1999-01-01", "nonsense"):
        with pytest.raises(UsageError):
            await restored(place, "acme", tmp_path / "out", at)
        with pytest.raises(UsageError):
            exported(place, "acme", tmp_path / "out", at)
    assert not (tmp_path / "out").exists()


async def test_two_repositories_of_one_name_come_both(place: Place, tmp_path: Path) -> None:
    await place.run()
    del place.acme.repositories["billing"]
    place.clock.elapsed += 86400
    place.acme.add_repository("billing").commit("main", {"a": b"1\n"}, "a\n")
    await place.run()
    code, _ = await restored(place, "acme", tmp_path / "restored")
    assert code == 0
    found = browse.export(place.config.store, Selector.parse("acme"), tmp_path / "exported")
    assert [one.problems for one in found if one.problems] == []
    for base in ("restored", "exported"):
        names = [path.name for path in (tmp_path / base / "acme").iterdir() if "billing" in path.name]
        assert len(names) == 2 and all(name.startswith("billing~") for name in names)


class Watching(NoProgress):
    """Records what is beside a target during a write, and can fail."""

    def __init__(self, target: Path, *, failing: bool = False) -> None:
        self.target = target
        self.failing = failing
        self.beside: set[str] = set()
        self.inside: set[str] = set()

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        self.beside |= {path.name for path in self.target.parent.iterdir()} - {self.target.name}
        self.inside |= {path.name for path in self.target.iterdir()}
        if self.failing and stage not in ("done", "documents"):
            raise OSError(28, "No space left on device", "somewhere")


async def test_what_goes_to_an_empty_folder_is_made_in_it_for_it_may_be_a_mount_point(
    place: Place, tmp_path: Path
) -> None:
    await place.run()
    website = Selector.parse("acme/website")
    for name in ("restored", "exported"):
        target = tmp_path / f"around {name}" / name
        target.mkdir(parents=True)
        before, watching = target.stat().st_ino, Watching(target)
        if name == "restored":
            report = await restore.run(
                place.config.store, website, target=str(target), progress=watching, environment=os.environ
            )
            assert report.exit_code == 0
            expected = {"code.git", "metadata", "files"}
        else:
            [found] = browse.export(place.config.store, website, target, report=watching.report)
            assert found.is_there and not found.problems and found.refs
            expected = {"code", "metadata", "files"}
        assert target.stat().st_ino == before  # a mount point can be neither removed nor replaced
        assert watching.beside == set() and watching.inside
        assert {path.name for path in target.iterdir()} - {"wiki", "wiki.git"} == expected


async def test_an_export_that_failed_leaves_nothing_and_says_so(place: Place, tmp_path: Path) -> None:
    await place.run()
    target = tmp_path / "around" / "exported"
    target.mkdir(parents=True)
    watching = Watching(target, failing=True)
    [found] = browse.export(
        place.config.store, Selector.parse("acme/website"), target, report=watching.report
    )
    assert (found.is_there, found.documents, found.files, found.refs) == (False, 0, 0, 0)
    assert [code for code, _ in found.problems] == [1]
    assert list(target.iterdir()) == []
    (target.parent / "file").touch()
    done = mirror(
        "export",
        "acme/website",
        "--to",
        str(target.parent / "file" / "x"),
        "--store",
        str(place.config.store),
    )
    assert done.returncode == 1 and "Could not export acme/website" in done.stdout


async def test_what_a_stopped_one_left_is_named(place: Place, tmp_path: Path) -> None:
    await place.run()
    (tmp_path / "out" / ".restoring-0123abcd").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"interrupted restore or export left \.restoring-0123abcd there"):
        await restored(place, "acme/website", tmp_path / "out")
    with pytest.raises(UsageError, match=r"interrupted restore or export left \.restoring-0123abcd there"):
        exported(place, "acme/website", tmp_path / "out")
