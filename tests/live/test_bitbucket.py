"""The whole path against Bitbucket itself, if you provide a token.

    MIRROR_LIVE_WORKSPACE=acme MIRROR_LIVE_REPOSITORY=small BITBUCKET_TOKEN=… pytest tests/live

The test only reads the repository. For a user's API token, set BITBUCKET_EMAIL, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.helpers import json_of, mirror
from tests.git.backend import git

WORKSPACE = os.environ.get("MIRROR_LIVE_WORKSPACE")
REPOSITORY = os.environ.get("MIRROR_LIVE_REPOSITORY")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (WORKSPACE and REPOSITORY and os.environ.get("BITBUCKET_TOKEN")),
        reason="needs MIRROR_LIVE_WORKSPACE, MIRROR_LIVE_REPOSITORY and BITBUCKET_TOKEN",
    ),
]


def test_back_up_verify_restore(tmp_path: Path) -> None:
    selector = f"{WORKSPACE}/{REPOSITORY}"
    secrets = {
        name: os.environ[name] for name in ("BITBUCKET_TOKEN", "BITBUCKET_EMAIL") if name in os.environ
    }
    store = str(tmp_path / "store")
    assert mirror("init", "--store", store).returncode == 0
    first = mirror("backup", selector, "--workspace", str(WORKSPACE), "--store", store, "--json", env=secrets)
    assert first.returncode in (0, 3), first.stdout + first.stderr
    again = mirror("backup", selector, "--workspace", str(WORKSPACE), "--store", store, "--json", env=secrets)
    [entry] = [one for one in json_of(again)["entries"] if one["kind"] == "repository"]
    assert entry["outcome"] in ("confirmed", "partial"), again.stdout
    assert mirror("verify", "--store", store).returncode == 0
    done = mirror("restore", selector, "--store", store, "--to", str(tmp_path / "back"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert git("fsck", "--full", cwd=tmp_path / "back" / "code.git", check=False) is not None
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert secrets["BITBUCKET_TOKEN"].encode() not in path.read_bytes()
