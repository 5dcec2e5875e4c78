"""False or odd statements of an upstream: nothing is lost, and the result reports them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.git.mirrors.fetch import FetchJob, FetchResult, fetch, read_refs
from mirror.git.mirrors.fsck import CheckJob, check, direct_values
from mirror.git.refs import read_head
from mirror.model import Head
from tests.git.backend import GitBackend, git, need_git
from tests.git.test_mirrors import LyingServer

pytestmark = pytest.mark.git


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    need_git()
    work, bare = tmp_path / "work", tmp_path / "root" / "up.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(3):
        (work / "file").write_text(f"{number}\n" * 50)
        git("add", ".", cwd=work)
        git("commit", "-qm", f"{number}", cwd=work)
        git("tag", "-a", f"v{number}", "-m", "one", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(bare))
    return bare


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    with GitBackend(upstream.parent) as running:
        yield running


def get(backend: GitBackend, mirror: Path) -> FetchResult:
    return fetch(FetchJob(str(mirror), f"{backend.url}/up.git", silence_timeout=30.0))


def test_a_ref_in_our_own_place_is_kept_by_value_and_never_under_its_name(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    tree = git("rev-parse", "main^{tree}", cwd=upstream).strip()
    only_there = git("commit-tree", "-m", "hidden", tree, cwd=upstream).strip()
    first = git("rev-parse", "main~2", cwd=upstream).strip()
    for name in (f"keep/{first}", "pull-requests/1/from", "work"):
        git("update-ref", f"refs/mirror/{name}", only_there, cwd=upstream)
    result = get(backend, mirror)
    # The result shows the ref as upstream has it, and the mirror's own names keep their meaning.
    assert result.refs.refs[b"refs/mirror/pull-requests/1/from"] == only_there
    ours = {
        name: value
        for name, value in read_refs(mirror, ours=True).refs.items()
        if name.startswith(b"refs/mirror/")
    }
    assert ours == {b"refs/mirror/keep/" + only_there.encode(): only_there}
    assert result.pins == {}
    assert check(CheckJob(str(mirror), tuple(result.refs.refs.values()))).problems == ()


@pytest.mark.parametrize("name", ["refs/heads/nowhere", "refs/tags/v9"])
def test_a_head_that_points_to_nowhere_is_told_as_it_is(
    backend: GitBackend, upstream: Path, tmp_path: Path, name: str
) -> None:
    mirror = tmp_path / "m.git"
    (upstream / "HEAD").write_text(f"ref: {name}\n")
    result = get(backend, mirror)
    assert result.refs.head in (Head("unborn", name.encode()), None)
    if result.refs.head is not None:
        assert read_head(mirror) == Head("unborn", name.encode())
    assert set(result.refs.refs.values()) <= direct_values(mirror)
    assert get(backend, mirror).changes == ()
    words = ("fsck", "--full", "--strict")
    assert git(*words, cwd=mirror, check=False) == git(*words, cwd=upstream, check=False)


def test_a_head_of_an_impossible_name_is_refused_and_told(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "m.git"
    before = get(backend, mirror)
    tip = before.refs.refs[b"refs/heads/main"].encode()
    lines = [tip + b" HEAD\0symref=HEAD:refs/../../etc", tip + b" refs/heads/main"]
    with LyingServer(lines) as server:
        result = fetch(FetchJob(str(mirror), server.url, silence_timeout=30.0))
    assert [name for name, _ in result.refused] == [b"HEAD"]
    assert read_head(mirror) == before.refs.head


def test_names_that_differ_only_in_case_are_all_there(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "m.git"
    values = [git("rev-parse", f"main~{back}", cwd=upstream).strip() for back in range(3)]
    names = [b"refs/heads/Topic", b"refs/heads/topic", b"refs/heads/TOPIC"]
    lines = "".join(f"create {name.decode()} {value}\n" for name, value in zip(names, values, strict=True))
    git("pack-refs", "--all", cwd=upstream)
    git("update-ref", "--stdin", cwd=upstream, stdin=lines.encode())
    get(backend, mirror)
    held = read_refs(mirror).refs
    assert [held[name] for name in names] == values
    assert git("for-each-ref", cwd=mirror) == git("for-each-ref", cwd=upstream)


def test_a_ref_that_is_advertised_twice_has_one_value_everywhere(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    new, old = (git("rev-parse", f"main~{back}", cwd=upstream).strip() for back in (0, 1))
    lines = [value.encode() + b" refs/heads/main" for value in (new, old, new, old)]
    with LyingServer(lines) as server:
        result = fetch(FetchJob(str(mirror), server.url, silence_timeout=30.0))
    assert (
        result.refs.refs
        == read_refs(mirror).refs
        == {b"refs/heads/main": result.refs.refs[b"refs/heads/main"]}
    )
    assert {new, old} <= direct_values(mirror)


@pytest.mark.parametrize("share", ["some", "all"])
def test_what_a_server_hides_for_one_run_is_kept_and_comes_back(
    backend: GitBackend, upstream: Path, tmp_path: Path, share: str
) -> None:
    mirror = tmp_path / "m.git"
    before = get(backend, mirror)
    saved = (upstream / "packed-refs").read_bytes()
    names = [name.decode() for name in before.refs.refs if share == "all" or b"tags" in name]
    git("update-ref", "--stdin", cwd=upstream, stdin="".join(f"delete {name}\n" for name in names).encode())
    hidden = get(backend, mirror)
    assert {change.name.decode() for change in hidden.changes} == set(names)
    assert {change.kind for change in hidden.changes} == {"removed"}
    assert set(before.refs.refs.values()) <= direct_values(mirror)
    git("gc", "-q", "--prune=now", cwd=mirror)
    (upstream / "packed-refs").write_bytes(saved)
    back = get(backend, mirror)
    assert back.refs.refs == before.refs.refs and back.received_objects == 0
    assert {change.kind for change in back.changes} == {"created"}
    assert check(CheckJob(str(mirror), tuple(before.refs.refs.values()))).problems == ()
