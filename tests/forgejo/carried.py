"""A restore of the stored repository into a fake Forgejo, in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mirror.auth.secrets import Secret
from mirror.forgejo.client import Client
from mirror.http.network import Network
from mirror.model import Selector
from mirror.restore import into_forgejo as into
from mirror.restore.carry.report import Report
from mirror.restore.plan.source import Options
from mirror.restore.secrets import load as load_secrets
from mirror.restore.session import Settings
from mirror.store.reading.reader import Store
from tests.clock import FakeClock
from tests.forgejo.fake import FakeForgejo
from tests.git.backend import git

WEBSITE = Selector("acme", "website")


@dataclass
class Restore:
    """What is restored, where its journals are, and how."""

    stored: Store
    forge: FakeForgejo
    state: Path
    place: into.Place
    options: Options = field(default_factory=Options)
    secrets: Path | None = None
    token: str = ""
    report: Report | None = None

    async def run(self, **more: Any) -> Report:
        """Restore, and return the report."""
        secrets = None if self.secrets is None else load_secrets(self.secrets)
        options = replace(self.options, secrets=secrets.keys if secrets is not None else frozenset())
        environment = {**os.environ, "HOOK": "h00k-secret"}
        settings = Settings(
            state=self.state, options=options, secrets=secrets, environment=environment, **more
        )
        clock, token = FakeClock(), Secret(self.token or self.forge.token)
        async with Client(self.forge.url, token, clock=clock, network=Network()) as client:
            found = await into.run(
                self.stored.path, WEBSITE, self.place, settings, client=client, token=token,
                clock=clock,
            )  # fmt: skip
        assert isinstance(found, Report)
        return found

    def things(self, kind: str) -> list[dict[str, Any]]:
        """What the repository there has of one kind."""
        name = self.place.repository or "website"
        return self.forge.forge.repositories[self.place.owner.lower(), name].list(kind)

    def thing(self, kind: str, begins: str) -> dict[str, Any]:
        """The one thing whose text begins so."""
        [found] = [one for one in self.things(kind) if one["body"].startswith(begins)]
        return found

    def refs(self, name: str = "website") -> dict[str, str]:
        """The refs of a git repository there."""
        place = self.forge.forge.git_of(self.place.owner, name)
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=place).splitlines()
        return dict(line.split(" ") for line in lines)
