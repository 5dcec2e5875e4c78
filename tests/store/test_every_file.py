"""Every file of a store has a name that the store's format defines, and every file with a JSON name is
JSON."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

from mirror import prune, verify
from mirror.config import Retention
from mirror.model import Selector
from mirror.prune import ErasureTarget
from mirror.retention import Policy
from mirror.store.writing.verify_journal import VerifyJournal
from mirror.store.writing.writer import open_store
from tests.place import Place

_FOLDER = r"[a-z0-9._-]+~[0-9a-f]{8,32}"
_GIT = (
    r"(HEAD|config|description|packed-refs|looked|lacking|retired|info/.+|lfs/pointers\.cache"
    r"|lfs/objects/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}|lfs/incomplete/[0-9a-f]{64}\.part"
    r"|objects/[0-9a-f]{2}/[0-9a-f]{38}|objects/info/.+"
    r"|objects/pack/pack-[0-9a-f]{40}\.(pack|idx|rev|bitmap))"
)
_OWN = (
    rf"(metadata\.git/{_GIT}|snapshots\.json|brake\.json|state\.json|lock|pruned\.json|dropped\.json"
    r"|erasures\.json|files/[0-9a-f]{2}/[0-9a-f]{64}(\.gz)?)"
)
# The list of a store's files, as one expression.
KNOWN = re.compile(
    r"store\.json|index\.json|INDEX\.md"
    r"|runs/\d{8}t\d{6}z-[0-9a-f]{6}\.json|runs/lists/[0-9a-f]{64}\.json"
    r"|(tmp|quarantine|cache)/.+"
    rf"|workspaces/{_FOLDER}/(workspace\.json|unfinished|{_OWN}|snippets/[a-z0-9._~-]+\.git/{_GIT}"
    rf"|repositories/{_FOLDER}/(repository\.json|{_OWN}|(code|wiki)\.git/{_GIT}))"
)


def names(store: Path) -> list[str]:
    return sorted(
        str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() or path.is_symlink()
    )


def hold(store: Path) -> list[str]:
    """Check every file of `store`; returns their names."""
    found = names(store)
    assert [name for name in found if KNOWN.fullmatch(name) is None] == []
    for name in found:
        if name.endswith(".json"):
            json.loads((store / name).read_bytes())
    return found


async def test_every_file_has_a_name_of_the_format_and_json_is_json(place: Place) -> None:
    website = place.acme.repositories["website"]
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n".encode()
    for number in range(2):
        website.commit(
            "main", {"big.bin": pointer, "n.txt": str(number).encode()}, f"Commit {number}\n",
            author=("Ann Archer", "ann@acme.example"), when=place.clock.now(),
        )  # fmt: skip
        await place.run()
    assert any(name.endswith("lfs/pointers.cache") for name in hold(place.config.store))
    await place.run()
    entry = replace(place.config.workspaces[0], retention=Retention(Policy(keep_last=1)))
    config = replace(place.config, workspaces=(replace(entry, accept_missing=("lfs",)),))
    await prune.prune(config, clock=place.clock, environment=os.environ)
    await prune.erase(
        config.store, Selector.parse("acme/website"), ErasureTarget(document="pull-requests/0/3.json"),
        reason="why",
        by="ann", clock=place.clock, environment=os.environ,
    )  # fmt: skip
    journal = VerifyJournal(config.store, "objects 1 ", resume=False, now=place.clock.now())
    run = await verify.run(config.store, journal=journal, clock=place.clock, environment=os.environ)
    hold(config.store)
    with open_store(config.store, command="mirror verify") as store:
        store.write_run(run)
    journal.finish()
    await place.run()
    found = hold(config.store)
    for name in ("pruned.json", "erasures.json", "cache/verified.json"):
        assert any(one.endswith(name) for one in found), name
