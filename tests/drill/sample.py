"""A store of the whole sample workspace, backed up once for all tests of a process, and sides in memory."""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from mirror import backup
from mirror.auth.credentials import ApiToken
from mirror.auth.secrets import SecretSource
from mirror.cli.system import SystemClock
from mirror.config.settings import BitbucketUrls, Config, NetworkConfig, WorkspaceConfig
from mirror.model import Json
from mirror.restore.comparison.sides import Side
from mirror.simulator import Simulator
from mirror.store.reading.reader import MirrorRefs
from mirror.store.writing.writer import create_or_open
from tests.e2e.helpers import MADE
from tests.simulator.helpers import EVERYTHING, sample_world


@functools.cache
def whole_store() -> Path:
    """A store with everything of the sample, read by a user's token. Only read it, or copy it."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    world = sample_world(folder / "upstream")
    user = world.users["ann@acme.example"]
    environment = {"TOKEN": world.add_api_token(user, EVERYTHING)}
    store = folder / "store"
    create_or_open(store, now=MADE).close()
    with Simulator(world) as simulator:
        credential = ApiToken(user.email, SecretSource("env", "TOKEN"))
        urls = BitbucketUrls(simulator.api_url, simulator.git_url, simulator.oauth_url)
        workspaces = (WorkspaceConfig("acme", (credential,)),)
        config = Config(store, urls, workspaces, network=NetworkConfig(proxy="none"))
        run = asyncio.run(backup.run(config, clock=SystemClock(), environment=environment))
    assert run.exit_code == 0, run.problems
    return store


@dataclass
class Held:
    """A side in memory, whose documents can be changed."""

    name: str
    documents: dict[str, Json]
    mirrors: Mapping[str, MirrorRefs]
    lfs: Mapping[str, tuple[int, bool]] | None
    unread: frozenset[str] = frozenset()

    @classmethod
    def of(cls, side: Side) -> Held:
        """A copy of a side, with all its documents."""
        documents = {path: deepcopy(side.document(path)) for path in side.paths()}
        return cls(side.name, documents, side.mirrors, side.lfs)

    def has_read(self, part: str) -> bool:
        """See `Side`."""
        return part not in self.unread

    def document(self, path: str) -> Json | None:
        """See `Side`."""
        return self.documents.get(path)

    def paths(self) -> list[str]:
        """See `Side`."""
        return sorted(self.documents)

    def text(self, value: Json) -> str | None:
        """See `Side`."""
        return value if isinstance(value, str) else None
