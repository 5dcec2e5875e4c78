"""The git server as C git sees it: every version of the protocol, odd refs, pushes and refusals."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES
from tests.git.backend import git, need_git
from tests.simulator.helpers import sample_world

pytestmark = pytest.mark.git


@pytest.fixture(autouse=True)
def _needs_git() -> None:
    need_git()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return sample_world(tmp_path / "world")


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    with Simulator(world) as running:
        yield running


def address(simulator: Simulator, slug: str = "website", scopes: frozenset[str] = SCOPES) -> str:
    """The URL of a repository, with a token of these scopes in it."""
    token = simulator.world.add_workspace_access_token("acme", scopes)
    return simulator.git_url.replace("://", f"://x-token-auth:{token}@") + f"/acme/{slug}.git"


def refs_of(path: Path) -> dict[bytes, str]:
    """The refs that C git shows."""
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=path).encode().splitlines()
    return {line.partition(b" ")[2]: line[:40].decode() for line in lines}


def refusal(*words: str, cwd: Path | None = None) -> str:
    """git's error message."""
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, cwd=cwd, env={"PATH": "/usr/bin:/bin"}, check=False
    )
    assert done.returncode != 0
    return done.stderr


def make_odd(world: World) -> None:
    """Create refs as they occur in real repositories."""
    website = world.workspaces["acme"].repositories["website"]
    tip = website.branch("main")
    assert tip is not None
    tag = website.tag("one", tip, "one\n")
    website.tag("of-a-tag", tag, "a tag of a tag\n")
    for name in (
        b"refs/notes/commits", b"refs/meta/config", b"refs/heads/Foo", b"refs/heads/foo", b"refs/heads/@",
        b"refs/heads/quote'\"", "refs/heads/ünï".encode(), b"refs/heads/latin-\xe9", b"refs/heads/a/b/c",
    ):  # fmt: skip
        website.set_ref(name, tip)


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_a_mirror_clone_equals_what_is_there(
    world: World, simulator: Simulator, tmp_path: Path, version: str
) -> None:
    make_odd(world)
    website = world.workspaces["acme"].repositories["website"]
    target = tmp_path / "mirror.git"
    url = address(simulator)
    git("-c", f"protocol.version={version}", "clone", "-q", "--mirror", url, str(target))
    names = git("for-each-ref", "--format=%(refname)", cwd=website.git_path)
    assert git("for-each-ref", "--format=%(refname)", cwd=target) == names
    assert git("for-each-ref", cwd=target) == git("for-each-ref", cwd=website.git_path)
    assert git("fsck", "--full", "--strict", cwd=target) == ""
    assert (target / "HEAD").read_text() == "ref: refs/heads/main\n"
    # Only new objects arrive, also after refs were removed and rewritten.
    website.commit("main", {"more": b"more\n"}, "More\n")
    website.delete_ref(b"refs/heads/foo")
    website.force("Foo", website.commit("other", {"x": b"x"}, "Other\n", parents=()))
    git("-c", f"protocol.version={version}", "fetch", "-q", "--prune", cwd=target)
    assert git("for-each-ref", cwd=target) == git("for-each-ref", cwd=website.git_path)
    assert git("fsck", "--full", "--strict", cwd=target, check=False).strip() in ("", "notice")


def test_version_2_is_spoken_where_it_is_asked_for(world: World, tmp_path: Path) -> None:
    with Simulator(world) as simulator:
        url = address(simulator, "handbook")
        git("-c", "protocol.version=2", "clone", "-q", url, str(tmp_path / "empty"))
        asked = [one.headers.get("git-protocol") for one in simulator.requests]
        assert "version=2" in asked
        # Only version 2 sends the name of an unborn branch.
        world.workspaces["acme"].repositories["handbook"].set_head("trunk")
        git("clone", "-q", url, str(tmp_path / "unborn"))
        assert (tmp_path / "unborn" / ".git" / "HEAD").read_text() == "ref: refs/heads/trunk\n"
    with Simulator(world, switches=Switches(git_protocol_v2=False)) as simulator:
        git("clone", "-q", "--mirror", address(simulator), str(tmp_path / "old"))
        answer = httpx.get(
            f"{address(simulator)}/info/refs?service=git-upload-pack",
            headers={"User-Agent": "git/2", "Git-Protocol": "version=2"},
        )
        assert b"version 2" not in answer.content


def test_shallow_and_partial_clones_are_what_they_say(
    world: World, simulator: Simulator, tmp_path: Path
) -> None:
    url = address(simulator, "api")
    git("clone", "-q", "--depth", "2", "--single-branch", url, str(tmp_path / "shallow"))
    assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "shallow").strip() == "2"
    git("fetch", "-q", "--unshallow", cwd=tmp_path / "shallow")
    assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "shallow").strip() == "6"
    git("clone", "-q", "--bare", "--filter=blob:none", url, str(tmp_path / "partial"))
    missing = git("rev-list", "--objects", "--all", "--missing=print", cwd=tmp_path / "partial")
    assert any(line.startswith("?") for line in missing.splitlines())


def test_a_hash_that_is_no_tip_is_served_only_where_the_switch_says(world: World, tmp_path: Path) -> None:
    website = world.workspaces["acme"].repositories["website"]
    old = website.branch("main")
    assert old is not None
    website.force("main", website.commit("fresh", {"a": b"a"}, "Fresh\n", parents=()))
    website.delete_ref(b"refs/tags/v1.0")
    for switches, works in ((Switches(), False), (Switches(git_serves_any_hash=True), True)):
        with Simulator(world, switches=switches) as simulator:
            git("init", "-q", "--bare", str(tmp_path / str(works)))
            if works:
                git("fetch", "-q", address(simulator), old, cwd=tmp_path / str(works))
            else:
                said = refusal("fetch", "-q", address(simulator), old, cwd=tmp_path / str(works))
                assert "not our ref" in said


def test_a_push_changes_refs_and_open_pull_requests(
    world: World, simulator: Simulator, tmp_path: Path
) -> None:
    website = world.workspaces["acme"].repositories["website"]
    url = address(simulator, scopes=SCOPES | {"repository:write"})
    work = tmp_path / "work"
    git("clone", "-q", url, str(work))
    git("checkout", "-q", "feature/blog", cwd=work)
    (work / "blog.html").write_text("<h1>Longer</h1>\n")
    git("commit", "-qam", "Longer", cwd=work)
    git("tag", "-a", "v2", "-m", "two", cwd=work)
    before = website.pull_requests[3].updated
    git("push", "-q", "origin", "feature/blog", "v2", ":refs/tags/v1.0", cwd=work)
    head = git("rev-parse", "HEAD", cwd=work).strip()
    assert website.branch("feature/blog") == head
    assert b"refs/tags/v1.0" not in website.refs()
    assert website.pull_requests[3].source_hash == head
    assert website.pull_requests[3].updated > before
    assert website.pull_requests[2].source_hash != head, "a closed pull request stays as it was"
    # A client can push a whole mirror into an empty repository.
    git("clone", "-q", "--mirror", url, str(tmp_path / "mirror"))
    target = address(simulator, "handbook", SCOPES | {"repository:write"})
    git("push", "-q", "--mirror", target, cwd=tmp_path / "mirror")
    assert world.workspaces["acme"].repositories["handbook"].refs() == website.refs()


def test_reading_does_not_allow_to_push(simulator: Simulator, tmp_path: Path) -> None:
    git("clone", "-q", address(simulator), str(tmp_path / "work"))
    assert "403" in refusal("push", "origin", "HEAD:refs/heads/new", cwd=tmp_path / "work")


def test_a_renamed_repository_is_found_at_its_old_address(
    world: World, simulator: Simulator, tmp_path: Path
) -> None:
    url = address(simulator)
    world.workspaces["acme"].rename_repository("website", "shop")
    world.workspaces["acme"].rename_repository("shop", "store")
    git("clone", "-q", url, str(tmp_path / "clone"))
    with Simulator(world, switches=Switches(renamed_repositories_redirect=False)) as strict:
        assert "not found" in refusal("clone", "-q", address(strict), str(tmp_path / "none"))
    # Another repository that takes the URL is served there.
    world.workspaces["acme"].add_repository("website")
    git("clone", "-q", url, str(tmp_path / "other"))
    assert refs_of(tmp_path / "other") == {}


@pytest.mark.parametrize(
    ("path", "agent", "status"),
    [
        ("/acme/website.git/info/refs?service=git-upload-pack", "git/2.43", 200),
        ("/acme/website.git/info/refs?service=git-upload-pack", "python-httpx", 403),
        ("/acme//website.git/info/refs?service=git-upload-pack", "git/2.43", 405),
        ("/acme/website.git/info/refs", "git/2.43", 404),
        ("/acme/website.git/HEAD", "git/2.43", 404),
        ("/acme/nothing.git/info/refs?service=git-upload-pack", "git/2.43", 404),
    ],
)
def test_addresses_are_taken_literally(simulator: Simulator, path: str, agent: str, status: int) -> None:
    url = address(simulator).replace("/acme/website.git", path)
    assert httpx.get(url, headers={"User-Agent": agent}).status_code == status


def test_a_post_without_a_get_is_refused_where_the_switch_says(world: World) -> None:
    for switches, status in ((Switches(), 200), (Switches(git_needs_get_first=True), 400)):
        with Simulator(world, switches=switches) as simulator:
            headers = {"User-Agent": "git/2", "Git-Protocol": "version=2"}
            url = address(simulator)
            body = b"0014command=ls-refs\n00010009peel\n0000"
            answer = httpx.post(f"{url}/git-upload-pack", content=body, headers=headers)
            assert answer.status_code == status
            httpx.get(f"{url}/info/refs?service=git-upload-pack", headers=headers)
            again = httpx.post(f"{url}/git-upload-pack", content=body, headers=headers)
            assert again.status_code == 200
            assert b"refs/heads/main" in again.content


def test_a_wrong_name_on_a_public_repository_is_an_anonymous_clone(
    world: World, simulator: Simulator, tmp_path: Path
) -> None:
    """As on Bitbucket: nobody notices the mistake until the repository becomes private."""
    website = world.workspaces["acme"].repositories["website"]
    website.private = False
    wrong = address(simulator).replace("x-token-auth", "ann@acme.example".replace("@", "%40"))
    git("clone", "-q", wrong, str(tmp_path / "clone"))
    assert simulator.requests[-1].identity == "anonymous"
    website.private = True
    assert "Authentication failed" in refusal("clone", "-q", wrong, str(tmp_path / "again"))


@pytest.mark.parametrize("kind", ["cut_pack", "corrupt_pack"])
def test_a_spoilt_pack_is_no_clone(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    fault = Fault("POST */git-upload-pack", "cut_pack" if kind == "cut_pack" else "corrupt_pack", skip=1)
    simulator.order(Fault(**{**fault.__dict__, "after": 900}))
    refusal("clone", "-q", "--mirror", address(simulator), str(tmp_path / "clone"))
    assert not (tmp_path / "clone").exists()
    git("clone", "-q", "--mirror", address(simulator), str(tmp_path / "clone"))


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        (Switches(), "not found"),
        (Switches(absent_wikis_are_410=True), "410"),
        (Switches(absent_wikis_are_401=True), "Authentication failed"),
        (Switches(wikis=True, wikis_need_scope=True), "403"),
        (Switches(wikis=True), None),
    ],
    ids=["404", "410", "401", "no scope", "there"],
)
def test_a_wiki_is_a_git_repository_where_there_still_is_one(
    world: World, tmp_path: Path, switches: Switches, said: str | None
) -> None:
    with Simulator(world, switches=switches) as running:
        url = address(running) + "/wiki"
        if said is None:
            git("clone", "-q", "--mirror", url, str(tmp_path / "wiki"))
            wiki = world.workspaces["acme"].repositories["website"].wiki
            assert wiki is not None and refs_of(tmp_path / "wiki") == wiki.refs()
        else:
            assert said in refusal("clone", "-q", url, str(tmp_path / "wiki"))
        assert "not found" in refusal(
            "clone", "-q", address(running, "api") + "/wiki-of", str(tmp_path / "x")
        )


def test_a_snippet_is_a_git_repository_of_whom_may_read_snippets(world: World, tmp_path: Path) -> None:
    [snippet] = world.workspaces["acme"].snippets.values()
    with Simulator(world) as running:
        base = address(running, scopes=SCOPES | {"snippet"}).partition("/acme/")[0]
        git("clone", "-q", f"{base}/{snippet.address}", str(tmp_path / "snippet"))
        assert git("rev-parse", "HEAD", cwd=tmp_path / "snippet").strip() == snippet.commit
        assert (tmp_path / "snippet" / "deploy.sh").read_bytes() == snippet.files["deploy.sh"]
        narrow = address(running).partition("/acme/")[0]
        assert "403" in refusal("clone", "-q", f"{narrow}/{snippet.address}", str(tmp_path / "no"))
        missing = f"{base}/snippets/acme/none/none.git"
        assert "not found" in refusal("clone", "-q", missing, str(tmp_path / "no"))
        anonymous = f"{running.git_url}/{snippet.address}"
        assert (
            httpx.get(
                f"{anonymous}/info/refs?service=git-upload-pack", headers={"User-Agent": "git/2"}
            ).status_code
            == 401
        )
