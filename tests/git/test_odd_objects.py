"""Objects that C git accepts and a strict parser does not: mirrored, checked and labelled like any other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mirror.git.mirrors.clone import copy_at
from mirror.git.mirrors.fetch import FetchJob, FetchResult, fetch
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.git.mirrors.pull_request_heads import HISTORY_MAX, _sparse_history
from mirror.git.refs import closed_after, open_objects, peeled_tag, read_refs
from tests.git.backend import GitBackend, git, need_git

pytestmark = pytest.mark.git
WHO = b"Ann <ann@example.org> 1767225600 +0000"
HEAD = b"author %s\ncommitter %s\n" % (WHO, WHO)
# The lines after the links of a commit.
COMMITS = {
    "a signature whose lines are not indented": HEAD
    + b"gpgsig -----BEGIN\niQEzBAABCAAdFiEE\n -----END\n\nx\n",
    "no author": b"committer %s\n\nx\n" % WHO,
    "no committer": b"author %s\n\nx\n" % WHO,
    "nothing but a message": b"\nx\n",
    "a date that is no number": b"author Ann <a@x> soon +0000\ncommitter Ann <a@x> then\n\nx\n",
    "a zone of another form": b"author Ann <a@x> 1 +00:00\ncommitter Ann <a@x> 1 utc\n\nx\n",
    "a date far away": HEAD.replace(b"1767225600", b"9" * 30) + b"\nx\n",
    "a date before 1970": HEAD.replace(b"1767225600", b"-1") + b"\nx\n",
    "a NUL in the author": HEAD.replace(b"Ann", b"A\0n") + b"\nx\n",
    "a NUL in the message": HEAD + b"\nx\0y\n",
    "an author without brackets": b"author ann\ncommitter ann\n\nx\n",
    "two authors": HEAD + HEAD + b"\nx\n",
    "an encoding that is none": HEAD + b"encoding \xff\xfe\n\nx\n",
    "a merged tag that is none": HEAD + b"mergetag object nothing\n\nx\n",
    "no line end at its end": HEAD.rstrip(b"\n"),
    "a carriage return": HEAD.replace(b"\n", b"\r\n") + b"\r\nx\r\n",
}
TAGS = {
    "no tagger": b"type commit\ntag t\n\nx\n",
    "a tagger without a date": b"type commit\ntag t\ntagger Ann <a@x>\n\nx\n",
    "a date that is no number": b"type commit\ntag t\ntagger Ann <a@x> soon +0000\n\nx\n",
    "a line without a space": b"type commit\ntag t\ntagger %s\niQEzBAABCAAdFiEE\n\nx\n" % WHO,
    "a NUL": b"type commit\ntag t\ntagger %s\n\nx\0y\n" % WHO,
    "no message": b"type commit\ntag t\n",
    "an empty name": b"type commit\ntag \n\nx\n",
}
TREES = {
    "a zero in front of a mode": b"040000 d\0%(tree)s",
    "odd rights": b"100600 f\0%(blob)s",
    "a set bit": b"104755 f\0%(blob)s",
    "one name twice": b"100644 f\0%(blob)s100644 f\0%(other)s",
    "the wrong order": b"100644 z\0%(blob)s100644 a\0%(other)s",
    "a submodule with a zero in front": b"0160000 s\0" + b"\1" * 20,
    "a name that leads out": b"100644 ..\0%(blob)s",
    "git's own name": b"100644 .git\0%(blob)s",
    "bytes that are no UTF-8": b"100644 \xff\xfe\0%(blob)s",
    "a slash": b"100644 a/b\0%(blob)s",
}


class Odd:
    """An upstream repository that accepts any object, behind C git's http-backend."""

    def __init__(self, tmp_path: Path) -> None:
        need_git()
        self.base = tmp_path
        self.bare = tmp_path / "root" / "up.git"
        git("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.blob, self.other = self.made("blob", b"one\n"), self.made("blob", b"two\n")
        self.tree = self.made("tree", b"100644 f\0" + bytes.fromhex(self.blob))
        self.wide = self.made("tree", b"100644 f\0" + bytes.fromhex(self.other))
        self.good = self.commit(HEAD + b"\ngood\n", self.tree)
        git("update-ref", "refs/heads/main", self.good, cwd=self.bare)

    def made(self, kind: str, content: bytes) -> str:
        words = ("hash-object", "-w", "--literally", "-t", kind, "--stdin")
        return git(*words, cwd=self.bare, stdin=content).strip()

    def commit(self, rest: bytes, tree: str, *parents: str) -> str:
        links = [f"tree {tree}\n", *(f"parent {one}\n" for one in parents)]
        return self.made("commit", "".join(links).encode() + rest)

    def point(self, name: str, value: str) -> None:
        """Set a ref without the parsing that update-ref would do."""
        file = self.bare / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")


@pytest.fixture
def odd(tmp_path: Path) -> Odd:
    return Odd(tmp_path)


@pytest.fixture
def backend(odd: Odd) -> Iterator[GitBackend]:
    with GitBackend(odd.bare.parent) as running:
        yield running


def get(backend: GitBackend, mirror: Path, **more: object) -> FetchResult:
    return fetch(FetchJob(str(mirror), f"{backend.url}/up.git", silence_timeout=30.0, **more))  # type: ignore[arg-type]


def agree(backend: GitBackend, odd: Odd, mirror: Path, theirs: Path | None = None) -> None:
    """Our mirror equals C git's in refs and in what fsck says of them, and our own check finds no fault."""
    if theirs is None:
        theirs = odd.base / f"{mirror.name}.theirs"
        git("clone", "-q", "--mirror", f"{backend.url}/up.git", str(theirs))
    listed = ("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
    assert git(*listed, cwd=mirror) == git(*listed, cwd=theirs)
    values = tuple(set(read_refs(mirror).refs.values()))
    assert check(CheckJob(str(mirror), values)).problems == ()
    fsck = ("fsck", "--full", "--strict", "--no-dangling")
    ours, others = (git(*fsck, cwd=one, check=False).splitlines() for one in (mirror, theirs))
    assert sorted(ours) == sorted(others)


@pytest.mark.parametrize("how", COMMITS)
def test_a_branch_goes_to_an_odd_commit_and_on_from_it(
    odd: Odd, backend: GitBackend, tmp_path: Path, how: str
) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    # The tip alone does not show it; the check for a rewrite reads it.
    strange = odd.commit(COMMITS[how], odd.wide)
    odd.point("refs/heads/main", strange)
    result = get(backend, mirror, pins={1: strange[:12]}, since=frozenset({odd.good}))
    assert [change.kind for change in result.changes] == ["rewritten"]
    assert result.pins == {1: strange} and result.commits == (strange,)
    child = odd.commit(HEAD + b"\nchild\n", odd.tree, strange, odd.good)
    odd.point("refs/heads/main", child)
    odd.point("refs/tags/t", odd.made("tag", f"object {strange}\ntype commit\ntag t\n\nx\n".encode()))
    result = get(backend, mirror, since=frozenset({strange}))
    assert [(one.name, one.kind) for one in result.changes] == [
        (b"refs/heads/main", "forwarded"),
        (b"refs/tags/t", "created"),
    ]
    assert set(result.commits) == {child, odd.good}
    agree(backend, odd, mirror)
    with closed_after(open_objects(mirror)) as store:
        assert list(_sparse_history(store, child, HISTORY_MAX)) == [child, strange]
        assert peeled_tag(store, result.refs.refs[b"refs/tags/t"]) == strange
    copy_at(mirror, tmp_path / "copy.git", result.refs)
    assert read_refs(tmp_path / "copy.git").refs == result.refs.refs


@pytest.mark.parametrize("how", TAGS)
def test_an_odd_tag_is_mirrored(odd: Odd, backend: GitBackend, tmp_path: Path, how: str) -> None:
    odd.point("refs/tags/t", odd.made("tag", f"object {odd.good}\n".encode() + TAGS[how]))
    result = get(backend, tmp_path / "m.git")
    agree(backend, odd, tmp_path / "m.git")
    copy_at(tmp_path / "m.git", tmp_path / "copy.git", result.refs)
    assert read_refs(tmp_path / "copy.git").peeled == {b"refs/tags/t": odd.good}


@pytest.mark.parametrize("how", TREES)
def test_an_odd_tree_is_mirrored(odd: Odd, backend: GitBackend, tmp_path: Path, how: str) -> None:
    names = {"tree": odd.tree, "blob": odd.blob, "other": odd.other}
    content = TREES[how] % {key.encode(): bytes.fromhex(value) for key, value in names.items()}
    strange = odd.commit(HEAD + b"\nx\n", odd.made("tree", content), odd.good)
    odd.point("refs/heads/main", strange)
    get(backend, tmp_path / "m.git")
    agree(backend, odd, tmp_path / "m.git")


def test_loose_odd_objects_are_read_too(odd: Odd, backend: GitBackend, tmp_path: Path) -> None:
    """Somebody unpacked a mirror by hand."""
    mirror = tmp_path / "m.git"
    strange = odd.commit(COMMITS["a signature whose lines are not indented"], odd.wide)
    odd.point("refs/heads/main", strange)
    get(backend, mirror)
    for pack in (mirror / "objects" / "pack").glob("pack-*.pack"):
        data = pack.read_bytes()
        for suffix in (".pack", ".idx"):
            pack.with_suffix(suffix).unlink()
        git("unpack-objects", "-q", cwd=mirror, stdin=data)
    assert check(CheckJob(str(mirror), (strange,))).problems == ()
    odd.point("refs/heads/main", odd.commit(HEAD + b"\nchild\n", odd.tree, strange))
    assert [change.kind for change in get(backend, mirror).changes] == ["forwarded"]
    [loose] = mirror.glob(f"objects/{strange[:2]}/{strange[2:]}")
    loose.chmod(0o600)
    loose.write_bytes(loose.read_bytes()[:-3])
    assert any(one.object == strange for one in check(CheckJob(str(mirror), (strange,))).problems)


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"author " + WHO, b"committer " + WHO, b"gpgsig x", b" indented", b"", b"=Bz3"]),
        st.binary(max_size=20),
    ),
    max_size=6,
)  # fmt: skip
_NUMBERS = itertools.count()


@given(commits=LINES, tag=LINES, mode=st.from_regex(rb"[0-7]{1,8}", fullmatch=True))
@settings(
    derandomize=True,
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_c_git_clones_is_mirrored(
    odd: Odd, backend: GitBackend, tmp_path: Path, commits: list[bytes], tag: list[bytes], mode: bytes
) -> None:
    mirror = tmp_path / f"{next(_NUMBERS)}.git"
    tree = odd.made("tree", mode + b" x\0" + bytes.fromhex(odd.tree))
    strange = odd.commit(b"\n".join(commits), odd.tree)
    odd.point("refs/heads/main", odd.commit(b"\n".join(commits), tree, strange))
    head = f"object {strange}\ntype commit\ntag t\n".encode()
    odd.point("refs/tags/t", odd.made("tag", head + b"\n".join(tag)))
    theirs = tmp_path / f"{mirror.name}.theirs"
    git("clone", "-q", "--mirror", f"{backend.url}/up.git", str(theirs), check=False)
    if not theirs.exists():
        return
    get(backend, mirror)
    agree(backend, odd, mirror, theirs)
    # In the other direction nothing needs to arrive, and each change gets a label.
    newest = (odd.bare / "refs/heads/main").read_text().strip()
    for value, kind in ((odd.good, "rewritten"), (strange, "rewritten"), (newest, "forwarded")):
        odd.point("refs/heads/main", value)
        assert [one.kind for one in get(backend, mirror).changes] == [kind]
