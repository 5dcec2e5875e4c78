"""A copy run sends what is new, and what stands in the bucket is a store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirror import verify
from mirror.config.copies import CopyConfig
from mirror.copy import sending
from mirror.copy.coding import Coding, plain
from mirror.model import Run
from tests.bucket.servers import ADMIN, Keys, ObjectServer, moto_server, seaweed
from tests.copy.remote import PREFIX, Remote, remote, tree
from tests.place import Place

__all__ = ["moto_server", "seaweed"]


@dataclass
class Copies:
    """A place with a copy: `make` makes it, `there` reads it."""

    place: Place
    server: ObjectServer
    bucket: str
    keys: Keys = ADMIN
    more: dict[str, Any] = field(default_factory=dict)
    coding: Coding = field(default_factory=plain)

    @property
    def config(self) -> CopyConfig:
        return CopyConfig(to=f"s3://{self.bucket}/{PREFIX}", endpoint=self.server.endpoint, **self.more)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.server.environment(self.keys)}

    async def make(self, **options: Any) -> Run:
        self.place.clock.elapsed += 60
        return await sending.run(
            self.place.config, self.config, clock=self.place.clock, environment=self.environment, **options
        )

    def there(self) -> Remote:
        return remote(self.server, self.bucket, self.coding)


@pytest.fixture
def copies(place: Place, seaweed: ObjectServer) -> Copies:
    return Copies(place, seaweed, seaweed.make_bucket())


async def sound(copies: Copies, target: Path) -> None:
    """What stands in the bucket is a store as good as ours."""
    there = copies.there()
    there.check_whole()
    assert there.rebuild(target)
    run = await verify.run(target, clock=copies.place.clock, environment=os.environ)
    assert run.facts["findings"] == []


async def test_first_nothing_changed_and_a_change(copies: Copies, tmp_path: Path) -> None:
    place = copies.place
    assert (await place.run()).exit_code == 0
    before = tree(place.config.store)
    first = await copies.make()
    assert (first.exit_code, first.facts["folders"]["failed"]) == (0, 0), first.all_problems
    assert copies.there().rebuild(tmp_path / "a")
    assert tree(tmp_path / "a") == before
    assert not list((place.config.store / "tmp").glob("copying-*/*"))

    # Only store.json is asked for, and the record of the first copy goes up.
    again = await copies.make()
    assert again.facts["folders"] == {"copied": 0, "unchanged": first.facts["folders"]["copied"], "failed": 0}
    assert again.facts["objects"] <= 2 and again.facts["requests"] <= 4

    # A backup that finds nothing changes no folder.
    assert (await place.run()).exit_code == 0
    quiet = await copies.make()
    assert quiet.facts["folders"]["copied"] == 0, quiet.facts

    website = place.acme.repositories["website"]
    website.commit("main", {"new.txt": b"new\n"}, "New\n")
    assert (await place.run()).exit_code == 0
    changed = await copies.make()
    assert changed.facts["folders"]["copied"] <= 2
    assert changed.facts["bytes"] < first.facts["bytes"] / 2
    await sound(copies, tmp_path / "b")
    assert changed.facts["covers"] in {path.stem for path in (tmp_path / "b" / "runs").glob("*.json")}
