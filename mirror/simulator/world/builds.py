"""Pipelines: what a repository's builds did."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import braced


@dataclass
class Step:
    """A step of a pipeline; `log` None: there is none, or it has expired."""

    uuid: str
    name: str
    log: bytes | None
    started: datetime
    # Names of test cases, and why each failed (None: it did not). No report where there are none.
    tests: dict[str, str | None] = field(default_factory=dict)
    # Logs of the service containers beside it, by their names.
    services: dict[str, bytes | None] = field(default_factory=dict)

    def service(self, name: str) -> str:
        """The uuid of a service container."""
        return braced("service", self.uuid, name)

    def log_of(self, uuid: str) -> bytes | None:
        """The log of the step itself, or of one of its services, by uuid."""
        if uuid == self.uuid:
            return self.log
        return next((log for name, log in self.services.items() if self.service(name) == uuid), None)


@dataclass
class Pipeline:
    """A pipeline; `result` None while it runs."""

    repository: GitRepository
    number: int
    branch: str
    commit: str
    created: datetime
    steps: list[Step]
    result: str | None

    @property
    def uuid(self) -> str:
        """The pipeline's uuid."""
        return braced("pipeline", self.repository.uuid, str(self.number))

    def finish(self, result: str = "SUCCESSFUL") -> None:
        """It ends."""
        self.result = result
