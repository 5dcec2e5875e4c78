"""A store, and a copy of it to make and to read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror import verify
from mirror.auth.secrets import SecretSource
from mirror.config.copies import CopyConfig
from mirror.config.settings import BitbucketUrls, Config
from mirror.copy import sending
from mirror.copy.coding import Coding, decrypting, plain
from mirror.model import Run
from tests.bucket.servers import ADMIN, Keys, ObjectServer
from tests.clock import FakeClock
from tests.copy.remote import PREFIX, Remote, remote

NAMES_KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Copies:
    """`make` makes the copy, `there` reads it."""

    store: Path
    server: ObjectServer
    bucket: str
    keys: Keys = ADMIN
    more: dict[str, Any] = field(default_factory=dict)
    coding: Coding = field(default_factory=plain)
    clock: FakeClock = field(default_factory=FakeClock)

    @property
    def config(self) -> CopyConfig:
        return CopyConfig(to=f"s3://{self.bucket}/{PREFIX}", endpoint=self.server.endpoint, **self.more)

    async def make(self, **options: Any) -> Run:
        self.clock.elapsed += 60
        return await sending.run(
            Config(self.store, BitbucketUrls(), ()), self.config, clock=self.clock,
            environment={**os.environ, **self.server.environment(self.keys)}, **options,
        )  # fmt: skip

    def encrypt(self, folder: Path) -> None:
        """Encrypt from now on, to a key of its own, with which `there` reads."""
        import pyrage

        identity = pyrage.x25519.Identity.generate()
        (folder / "names").touch(0o600)
        (folder / "names").write_text(NAMES_KEY)
        self.more |= {
            "recipients": [str(identity.to_public())],
            "names_key": SecretSource("file", str(folder / "names")),
        }
        self.coding = decrypting([identity])

    def there(self) -> Remote:
        return remote(self.server, self.bucket, self.coding)

    async def sound(self, target: Path) -> None:
        """What stands in the bucket is a store in which verify finds nothing."""
        there = self.there()
        there.check_whole()
        assert there.rebuild(target)
        run = await verify.run(target, clock=self.clock, environment=os.environ)
        assert run.facts["findings"] == []
