"""What `mirror copy` sends, reading brings back: after an attack, and so that backups go on on top of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from mirror import backup, verify
from mirror.auth.secrets import SecretSource
from mirror.copy.bringing import bring
from mirror.copy.checking import check
from mirror.copy.reading import Copy
from tests.bucket.servers import ADMIN, UPLOADER, ObjectServer
from tests.copy.copies import Copies
from tests.copy.test_reading import content
from tests.copy.written import WrittenCopy
from tests.place import Place


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
async def test_what_was_sent_comes_back_after_an_attack_and_goes_on(
    is_encrypted: bool, place: Place, seaweed: ObjectServer, tmp_path: Path
) -> None:
    identity = pyrage.x25519.Identity.generate()
    more: dict[str, Any] = {}
    if is_encrypted:
        key = tmp_path / "names"
        key.touch(mode=0o600)
        key.write_text("a key of the names that is long enough")
        more = {"recipients": (str(identity.to_public()),), "names_key": SecretSource("file", str(key))}
    bucket = seaweed.make_bucket(locked=True, days=1)
    copies = Copies(place.config.store, seaweed, bucket, UPLOADER, more, clock=place.clock)
    await place.run()
    assert (await copies.make()).exit_code == 0
    place.acme.repositories["website"].commit("main", {"new.txt": b"new\n"}, "More")
    await place.run()
    run = await copies.make()
    assert run.exit_code == 0, run.to_json(previous=None)
    there, identities = content(place.config.store), [identity] if is_encrypted else []
    async with seaweed.open(bucket) as opened:
        found = await check(await Copy.open(opened, identities), read=True, store=place.config.store)
        assert (found.faults, found.behind) == ([], {})
    thief, admin = WrittenCopy(seaweed, bucket, keys=UPLOADER), WrittenCopy(seaweed, bucket, keys=ADMIN)
    for number, name in enumerate(thief.stored()):
        thief.overwrite(name, b"gone")
        if number % 2:
            admin.delete(name)
    target = tmp_path / "back"
    async with seaweed.open(bucket) as opened:
        done = await bring(await Copy.open(opened, identities), target, now=place.clock.now())
    assert done.lost == {}
    back = content(target)
    # The copy's own record goes up with the next copy, and a lock or a cache never.
    lacking = {path for path in there.keys() - back.keys() if run.id not in path}
    assert {path.rpartition("/")[2] for path in lacking} <= {"unfinished", "looked"}
    assert {path: data for path, data in back.items() if there.get(path) != data} == {}
    assert (await verify.run(target, clock=place.clock, environment=os.environ)).exit_code == 0
    place.clock.elapsed += 3600
    config = replace(place.config, store=target)
    again = await backup.run(config, clock=place.clock, environment=os.environ)
    assert again.exit_code == 0, again.to_json(previous=None)
    assert (await verify.run(target, clock=place.clock, environment=os.environ)).exit_code == 0
