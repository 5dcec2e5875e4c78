"""What the git server refuses to take, as C git finds it."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import quote

import pytest

from mirror.simulator import Simulator, Switches
from mirror.simulator.world.sample import SCOPES
from tests.git.backend import git, need_git
from tests.simulator.helpers import EVERYTHING, sample_world
from tests.simulator.test_git import address, refusal

pytestmark = pytest.mark.git


@pytest.fixture(autouse=True)
def _needs_git() -> None:
    need_git()


def cloned(simulator: Simulator, work: Path) -> str:
    """A clone of the sample's website at `work`, and the address of an empty repository to push to."""
    git("clone", "-q", address(simulator), str(work))
    return address(simulator, "handbook", SCOPES | {"repository:write"})


def test_refs_of_pull_requests_are_not_for_pushing(tmp_path: Path) -> None:
    with Simulator(sample_world(tmp_path / "world")) as simulator:
        target = cloned(simulator, tmp_path / "work")
        said = refusal(
            "push", target, "HEAD:refs/pull-requests/1/from", "HEAD:refs/heads/main", cwd=tmp_path / "work"
        )
        assert "deny updating a hidden ref" in said
        handbook = simulator.world.workspaces["acme"].repositories["handbook"]
        assert list(handbook.refs()) == [b"refs/heads/main"]


@pytest.mark.parametrize("refuses", [True, False])
def test_pushes_and_files_may_be_too_large(tmp_path: Path, refuses: bool) -> None:
    world = sample_world(tmp_path / "world")
    with Simulator(world, switches=Switches(large_pushes_refused=refuses)) as simulator:
        work = tmp_path / "work"
        target = cloned(simulator, work)
        world.sizes["file"] = 50_000
        git("push", "-q", target, "HEAD:refs/heads/main", cwd=work)
        # It is small in the pack, and a large file nevertheless.
        (work / "large.bin").write_bytes(b"0" * 50_001)
        git("add", ".", cwd=work)
        git("commit", "-qm", "Large", cwd=work)
        if refuses:
            assert "hook declined" in refusal("push", target, "HEAD:refs/heads/main", cwd=work)
            world.sizes["file"] = 50_001
        git("push", "-q", target, "HEAD:refs/heads/main", cwd=work)
        world.sizes.update(push=10_000, file=1_000_000)
        (work / "noise.bin").write_bytes(secrets.token_bytes(20_000))
        git("add", ".", cwd=work)
        git("commit", "-qm", "Noise", cwd=work)
        if refuses:
            assert "unpacker error" in refusal("push", target, "HEAD:refs/heads/main", cwd=work)
        else:
            git("push", "-q", target, "HEAD:refs/heads/main", cwd=work)


def test_restrictions_hold_for_pushes(tmp_path: Path) -> None:
    world = sample_world(tmp_path / "world")
    work = tmp_path / "work"
    handbook = world.workspaces["acme"].repositories["handbook"]
    people = {"users": [{"@user": "ann@acme.example"}], "groups": []}
    with Simulator(world) as simulator:
        target = cloned(simulator, work)
        git("push", "-q", target, "HEAD:refs/heads/main", "HEAD:refs/heads/v1", cwd=work)
        handbook.settings["branch_restrictions"] = [
            {"kind": "push", "pattern": "main", **people},
            {"kind": "force", "pattern": "v*", "users": [], "groups": []},
            {"kind": "delete", "pattern": "v*", "users": [], "groups": []},
        ]
        git("commit", "-q", "--allow-empty", "-m", "More", cwd=work)
        assert "declined" in refusal("push", target, "HEAD:refs/heads/main", cwd=work)
        git("push", "-q", target, "HEAD:refs/heads/v1", cwd=work)
        assert "declined" in refusal("push", target, "+HEAD~2:refs/heads/v1", cwd=work)
        assert "declined" in refusal("push", target, ":refs/heads/v1", cwd=work)
        secret = world.add_api_token(world.users["ann@acme.example"], EVERYTHING)
        user = f"://x-bitbucket-api-token-auth:{quote(secret)}@"
        own = simulator.git_url.replace("://", user) + "/acme/handbook.git"
        git("push", "-q", own, "HEAD:refs/heads/main", cwd=work)
