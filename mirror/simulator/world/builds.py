"""Pipelines and their steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import braced


@dataclass
class Step:
    """A step of a pipeline. `log` None: it has no log, or the log has expired."""

    uuid: str
    name: str
    log: bytes | None
    started: datetime
    # By name of the test case: the reason of its failure, None where it passed. Empty: no report.
    tests: dict[str, str | None] = field(default_factory=dict)
    # By name of the service container: its log.
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
        """End the pipeline with a result."""
        self.result = result
        self.announce(is_new=False)

    def announce(self, *, is_new: bool) -> None:
        """Announce the pipeline as Bitbucket does: as a build status of its commit."""
        status = {
            "key": f"pipeline-{self.number}", "state": self.result or "INPROGRESS", "date": self.created,
            "url": f"https://bitbucket.org/{self.repository.full_name}/pipelines/results/{self.number}",
            "refname": self.branch,
        }  # fmt: skip
        self.repository.announce_status(self.commit, status, is_new=is_new)
