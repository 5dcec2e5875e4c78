"""An unknown server: C git's http-backend behind a minimal API."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.git.mirrors.fetch import read_refs
from tests.e2e.helpers import json_of, mirror
from tests.e2e.minimal_api import TOKEN, MinimalApi
from tests.git.backend import GitBackend, git, need_git

ODD_REFS = [
    "refs/notes/commits",
    "refs/pull-requests/7/from",
    "refs/meta/config",
    "refs/heads/Foo",
    "refs/heads/foo",
    "refs/heads/@",
    "refs/heads/quote'\"",
    "refs/heads/ünï",
    "refs/changes/01/1/1",
]


def make_upstream(root: Path) -> None:
    """Three repositories made by C git: with odd refs, an empty one, and one with a detached HEAD."""
    work = root / "work"
    git("init", "-q", "-b", "trunk", str(work))
    for number in range(5):
        (work / f"file{number}").write_text(f"{number}\n")
        git("add", ".", cwd=work)
        git("commit", "-qm", f"commit {number}", cwd=work)
    git("tag", "-a", "v1", "-m", "one", cwd=work)
    git("tag", "-a", "v1-signed-off", "-m", "a tag of a tag", "v1", cwd=work)
    blob = git("hash-object", "-w", "file0", cwd=work).strip()
    git("tag", "just-a-blob", blob, cwd=work)
    git("clone", "-q", "--mirror", str(work), str(root / "acme" / "odd.git"))
    for ref in ODD_REFS:
        git("update-ref", ref, "refs/heads/trunk~1", cwd=root / "acme" / "odd.git")
    git("init", "-q", "--bare", "-b", "unborn", str(root / "acme" / "empty.git"))
    git("clone", "-q", "--mirror", str(work), str(root / "acme" / "detached.git"))
    head = git("rev-parse", "trunk~2", cwd=work).strip()
    (root / "acme" / "detached.git" / "HEAD").write_text(head + "\n")


def backup(tmp_path: Path, api: MinimalApi, backend: GitBackend) -> dict[str, str]:
    """Run a backup; returns the outcome of each repository."""
    (tmp_path / "config.yaml").write_text(
        f"store: store\nbitbucket: {{api_url: '{api.url}', git_url: '{backend.url}',"
        f" oauth_url: '{backend.url}/token'}}\n"
        "workspaces:\n  - workspace: acme\n"
        "    credential: {kind: workspace_access_token, token: {env: TOKEN}}\n"
    )
    done = mirror("backup", "--init", "--json", cwd=tmp_path, env={"TOKEN": TOKEN})
    # 5: the mass-loss brake, if a test removes most refs of a repository.
    assert done.returncode in (0, 3, 5), done.stdout + done.stderr
    return {entry["full_name"]: entry["outcome"] for entry in json_of(done)["entries"]}


@pytest.mark.git
def test_mirrors_equal_upstream_ref_for_ref_and_object_for_object(tmp_path: Path) -> None:
    need_git()
    make_upstream(tmp_path / "up")
    with (
        MinimalApi("acme", ["odd", "empty", "detached"]) as api,
        GitBackend(tmp_path / "up", user="x-token-auth", password=TOKEN) as backend,
    ):
        outcomes = backup(tmp_path, api, backend)
        assert set(outcomes.values()) == {"saved"}
        assert set(backup(tmp_path, api, backend).values()) == {"confirmed"}
    for slug in ("odd", "empty", "detached"):
        upstream = tmp_path / "up" / "acme" / f"{slug}.git"
        [mine] = (tmp_path / "store").glob(f"workspaces/*/repositories/{slug}~*/code.git")
        theirs = tmp_path / f"{slug}-clone.git"
        git("clone", "-q", "--mirror", str(upstream), str(theirs))
        format_ = "--format=%(objectname) %(refname) %(*objectname)"
        ours = [
            line
            for line in git("for-each-ref", format_, cwd=mine).splitlines()
            if " refs/mirror/" not in line
        ]
        assert ours == git("for-each-ref", format_, cwd=upstream).splitlines()
        assert (mine / "HEAD").read_text() == (upstream / "HEAD").read_text()
        assert git("fsck", "--full", "--strict", cwd=mine, check=False) == git(
            "fsck", "--full", "--strict", cwd=theirs, check=False
        )
        git("clone", "-q", str(mine), str(tmp_path / f"{slug}-from-store"))
    for metadata in (tmp_path / "store").rglob("metadata.git"):
        assert git("fsck", "--full", "--strict", "--no-dangling", cwd=metadata) == ""
        git("clone", "-q", str(metadata), str(tmp_path / "clones" / metadata.parent.name))


@pytest.mark.git
def test_a_deleted_and_a_rewritten_repository_come_back(tmp_path: Path) -> None:
    need_git()
    make_upstream(tmp_path / "up")
    odd = tmp_path / "up" / "acme" / "odd.git"
    before = dict(read_refs(odd).refs)
    with (
        MinimalApi("acme", ["odd", "detached"]) as api,
        GitBackend(tmp_path / "up", user="x-token-auth", password=TOKEN) as backend,
    ):
        backup(tmp_path, api, backend)
        [taken] = json_of(mirror("snapshots", "acme/odd", "--json", cwd=tmp_path))["snapshots"]
        for ref in ODD_REFS:
            git("update-ref", "-d", ref, cwd=odd)
        git("update-ref", "refs/heads/trunk", "refs/heads/trunk~3", cwd=odd)
        git("update-ref", "refs/heads/foo/bar", "refs/heads/trunk", cwd=odd)
        api.lose("detached")
        outcomes = backup(tmp_path, api, backend)
        assert outcomes == {"acme/odd": "saved", "acme/detached": "absent", "acme": "saved"}
        [mine] = (tmp_path / "store").glob("workspaces/*/repositories/odd~*/code.git")
        git("gc", "-q", "--prune=now", cwd=mine)
        done = mirror("restore", "acme/odd", "--at", taken["id"], "--to", "back", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert dict(read_refs(tmp_path / "back" / "code.git").refs) == before
        git("init", "-q", "--bare", str(tmp_path / "up" / "acme" / "target.git"))
        pushed = mirror(
            "restore", "acme/odd", "--at", taken["id"], "--to", f"{backend.url}/acme/target.git",
            cwd=tmp_path, env={"TOKEN": TOKEN},
        )  # fmt: skip
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert dict(read_refs(tmp_path / "up" / "acme" / "target.git").refs) == before
    verified = mirror("verify", "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.git
def test_a_branch_that_upstream_cannot_give_costs_no_other(tmp_path: Path) -> None:
    need_git()
    make_upstream(tmp_path / "up")
    odd = tmp_path / "up" / "acme" / "odd.git"
    lost = git("commit-tree", "-p", "trunk", "-m", "lost", "trunk^{tree}", cwd=odd).strip()
    child = git("commit-tree", "-p", lost, "-m", "its child", "trunk^{tree}", cwd=odd).strip()
    git("update-ref", "refs/heads/broken", child, cwd=odd)
    (odd / "objects" / lost[:2] / lost[2:]).unlink()
    with (
        MinimalApi("acme", ["odd"]) as api,
        GitBackend(tmp_path / "up", user="x-token-auth", password=TOKEN) as backend,
    ):
        assert backup(tmp_path, api, backend)["acme/odd"] == "partial"
        done = mirror("backup", "--json", cwd=tmp_path, env={"TOKEN": TOKEN})
        assert done.returncode == 3, done.stdout + done.stderr
        [entry] = [one for one in json_of(done)["entries"] if one["full_name"] == "acme/odd"]
        [problem] = [one for one in entry["problems"] if one["part"] == "code"]
        assert problem["code"] == 3
        assert "refs/heads/broken" in problem["text"] and lost in problem["text"]
        assert entry["parts"]["code"]["counts"]["refs_not_had"] == 1
        # A repeated failure has the same text, so it makes no new snapshot.
        taken = json_of(mirror("snapshots", "acme/odd", "--json", cwd=tmp_path))["snapshots"]
        assert all(one["parts"]["code"] == taken[0]["parts"]["code"] for one in taken)
    done = mirror("restore", "acme/odd", "--only", "code", "--to", "back", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {name: value for name, value in read_refs(odd).refs.items() if value != child}
    assert dict(read_refs(tmp_path / "back" / "code.git").refs) == wanted
    verified = mirror("verify", "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout
