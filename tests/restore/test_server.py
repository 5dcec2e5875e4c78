"""A restore to a git server that refuses some of it reports what arrived, what did not, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror import restore
from mirror.errors import UsageError
from mirror.git.refs import read_refs
from mirror.model import Selector
from tests.e2e.helpers import mirror
from tests.git.backend import GitBackend, git, need_git
from tests.place import Place

pytestmark = pytest.mark.git
WEBSITE = Selector.parse("acme/website")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    need_git()
    bare = tmp_path / "root" / "target.git"
    git("init", "-q", "--bare", "-b", "trunk", str(bare))
    return bare


async def test_a_target_that_declines_some_refs_is_restored_in_part(
    place: Place, tmp_path: Path, target: Path
) -> None:
    website = place.acme.repositories["website"]
    for number in (1, 2):
        website.set_ref(f"refs/notes/{number}".encode(), website.refs()[b"refs/heads/main"])
    await place.run()
    git("config", "transfer.hideRefs", "refs/notes", cwd=target)
    store = str(place.config.store)
    with GitBackend(target.parent) as backend:
        url = f"{backend.url}/target.git"
        done = mirror("restore", "acme/website", "--to", url, "--store", store)
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"Restored in part acme/website to {url}" in done.stdout
        assert "refused 2 refs: refs/notes/1, refs/notes/2: deny updating a hidden ref" in done.stdout
        assert "to do: set the default branch to main" in done.stdout
        held = dict(read_refs(target).refs)
        assert held[b"refs/heads/main"] and not any(name.startswith(b"refs/notes/") for name in held)
        # Nothing remains to push, and the server refuses the same refs again.
        report = await restore.run(place.config.store, WEBSITE, target=url, environment=os.environ)
        [item] = report.items
        assert item.is_there and item.push is not None and item.push["pushed"] == []
        assert report.exit_codes == (3,)


async def test_refs_are_chosen_by_globs(place: Place, target: Path) -> None:
    await place.run()
    url = target.as_uri()
    for refs, fault in ((["refs/heads/none"], "no ref of such a name"), (["main"], "no ref of such a name")):
        with pytest.raises(UsageError, match=fault):
            await restore.run(place.config.store, WEBSITE, target=url, refs=refs, environment=os.environ)
    report = await restore.run(
        place.config.store, WEBSITE, target=url, refs=["refs/heads/*", "refs/tags/v*"], environment=os.environ
    )
    assert report.exit_code == 0
    names = set(read_refs(target).refs)
    assert b"refs/heads/main" in names
    assert all(name.startswith((b"refs/heads/", b"refs/tags/v")) for name in names)
    # A bare repository on this machine gets the snapshot's default branch.
    assert git("symbolic-ref", "HEAD", cwd=target).strip() == "refs/heads/main"
    assert report.items[0].advice == ()
