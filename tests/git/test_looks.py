"""A fetch without changes does not parse a response that equals the last one, and nothing else counts as
equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.git.mirrors.fetch import FetchJob, FetchResult, fetch, read_refs
from mirror.git.mirrors.fetch_cache import FILE
from mirror.git.refs import read_packed, roll_back, write_packed
from tests.git.backend import GitBackend, git, need_git

pytestmark = pytest.mark.git
NOBODY = "e" * 40


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    need_git()
    work, bare = tmp_path / "work", tmp_path / "root" / "up.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(3):
        git("commit", "-q", "--allow-empty", "-m", f"{number}", cwd=work)
        git("tag", "-a", f"v{number}", "-m", "one", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(bare))
    return bare


@pytest.fixture
def job(upstream: Path, tmp_path: Path) -> Iterator[FetchJob]:
    with GitBackend(upstream.parent) as running:
        tip = git("rev-parse", "main", cwd=upstream).strip()
        pins = {7: tip[:12], 8: NOBODY}
        yield FetchJob(str(tmp_path / "m.git"), f"{running.url}/up.git", pins=pins, silence_timeout=30.0)


def told(result: FetchResult) -> tuple[object, ...]:
    """What a run reports of a result."""
    refs = result.refs
    return refs.refs, refs.head, refs.peeled, result.changes, result.refused, result.pins, result.unpinned


def test_the_same_again_is_told_without_reading_it(job: FetchJob) -> None:
    first = fetch(job)
    assert first.advertised is not None and first.unpinned == (8,)
    again = fetch(job)
    assert again.advertised is None
    assert told(again) == told(replace(first, changes=()))


def moved_upstream(job: FetchJob, upstream: Path) -> FetchJob:
    git("update-ref", "refs/heads/more", "main~1", cwd=upstream)
    return job


def another_head_upstream(job: FetchJob, upstream: Path) -> FetchJob:
    git("update-ref", "refs/heads/more", "main", cwd=upstream)
    fetch(job)
    git("symbolic-ref", "HEAD", "refs/heads/more", cwd=upstream)
    return job


def another_pin(job: FetchJob, upstream: Path) -> FetchJob:
    return replace(job, pins={7: git("rev-parse", "main~1", cwd=upstream).strip()})


def erased(job: FetchJob, _: Path) -> FetchJob:
    return replace(job, erased=frozenset([b"refs/tags/v1"]))


def commits_wanted(job: FetchJob, _: Path) -> FetchJob:
    return replace(job, since=frozenset())


def ref_moved_here(job: FetchJob, _: Path) -> FetchJob:
    git("update-ref", "refs/heads/main", "main~1", cwd=Path(job.mirror))
    return job


def packed_here(job: FetchJob, _: Path) -> FetchJob:
    git("pack-refs", "--all", cwd=Path(job.mirror))
    git("update-ref", "-d", "refs/tags/v1", cwd=Path(job.mirror))
    return job


def head_moved_here(job: FetchJob, _: Path) -> FetchJob:
    git("symbolic-ref", "HEAD", "refs/heads/elsewhere", cwd=Path(job.mirror))
    return job


def held_for_later(job: FetchJob, _: Path) -> FetchJob:
    path = Path(job.mirror)
    refs, peeled = read_packed(path)
    write_packed(path, {**refs, b"refs/mirror/work/x": refs[b"refs/heads/main"]}, peeled)
    return replace(job, pins={7: job.pins[7]})  # nothing else is to do


CHANGES = [
    moved_upstream, another_head_upstream, another_pin, erased, commits_wanted,
    ref_moved_here, packed_here, head_moved_here, held_for_later,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_differs_is_read(
    job: FetchJob, upstream: Path, change: Callable[[FetchJob, Path], FetchJob]
) -> None:
    fetch(job)
    job = change(job, upstream)
    result = fetch(job)
    assert result.advertised is not None
    mirror = Path(job.mirror)
    after = read_refs(mirror, ours=True)
    # The same result as without the cache.
    (mirror / FILE).unlink(missing_ok=True)
    plain = fetch(job)
    assert told(plain) == told(replace(result, changes=()))
    assert read_refs(mirror, ours=True) == after
    assert b"refs/mirror/work/x" not in after.refs


def test_damage_to_what_is_kept_of_a_look_is_no_answer(job: FetchJob) -> None:
    first = fetch(job)
    path = Path(job.mirror) / FILE
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        result = fetch(job)
        assert result.advertised is not None and result.unpinned == first.unpinned, at
    for length in (0, 1, 40, 64):
        path.write_bytes(whole[:length])
        assert fetch(job).unpinned == first.unpinned


def test_what_was_refused_is_told_by_every_look(job: FetchJob, upstream: Path, tmp_path: Path) -> None:
    """Every fetch reports a name that no mirror can have, as long as upstream has it."""
    tip = git("rev-parse", "main", cwd=upstream).strip()
    with (upstream / "packed-refs").open("a") as file:
        file.write(f"{tip} refs/tags/{'n' * 1100}\n")
    assert [len(fetch(job).refused) for _ in range(3)] == [1, 1, 1]


def test_commits_are_told_until_they_are_noted(job: FetchJob, upstream: Path) -> None:
    """A run that dies before it has recorded them asks for the same commits again."""
    every = set(git("rev-list", "--all", cwd=upstream).split())
    job = replace(job, since=frozenset())
    assert [set(fetch(job).commits) for _ in range(3)] == [every] * 3
    tips = {*git("for-each-ref", "--format=%(objectname)", cwd=upstream).split()}
    job = replace(job, since=frozenset(tips))
    assert [fetch(job).commits for _ in range(2)] == [(), ()]
    assert fetch(job).advertised is None


def test_a_head_that_was_lost_comes_back(job: FetchJob) -> None:
    first = fetch(job)
    (Path(job.mirror) / "HEAD").unlink()
    fetch(job)
    assert read_refs(Path(job.mirror)).head == first.refs.head


def test_where_a_look_cannot_be_kept_the_fetch_is_as_good(job: FetchJob) -> None:
    (Path(job.mirror) / FILE).mkdir(parents=True)
    fetch(job)
    assert told(fetch(job)) == told(replace(fetch(job), changes=()))
    assert fetch(job).advertised is not None


def test_tags_that_are_set_back_lead_where_they_led(job: FetchJob, upstream: Path) -> None:
    refs = fetch(job).refs
    mirror = Path(job.mirror)
    before = git("show-ref", "--dereference", "--tags", cwd=mirror)
    git("update-ref", "-d", "refs/tags/v1", cwd=upstream)
    git("update-ref", "refs/tags/v2", "main~1", cwd=upstream)
    fetch(job)
    roll_back(mirror, refs.refs, {}, refs.head)
    assert git("show-ref", "--dereference", "--tags", cwd=mirror) == before
    assert fetch(job).advertised is not None
