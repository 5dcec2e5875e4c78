"""What went wrong while one folder's documents were collected, and what is not asked for any more."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, Denied, NotFound, RateLimited
from mirror.errors import CredentialRefused, MirrorError, TryLater

# After so many failures of the server, the folder is left for the next run.
TROUBLE_MAX = 5
# After so many refusals in a row, an endpoint is not asked again in this turn.
REFUSALS_MAX = 8


@dataclass
class Failures:
    """The failures of one turn.

    `texts`: by part, what could not be read. `denied`: by endpoint, the part and the refusal that names
    a missing scope. `refusals`: by endpoint, how often it refused in a row without naming one.
    `retryable`: parts that a later run may complete. `refused`: parts for which the credential was
    refused. `stopped`: why nothing is asked for any more. `tried`: what failed in this turn, as part,
    number and child, so that it is asked for once.
    """

    texts: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    denied: dict[str, tuple[str, Denied]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    retryable: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    stopped: TryLater | None = None
    tried: set[tuple[str, int, str]] = field(default_factory=set)
    _trouble: int = 0

    @property
    def exit_codes(self) -> dict[str, int]:
        """By part the exit code of what it lacks, where that is not the code of what is just missing."""
        retryable = dict.fromkeys(self.retryable, TryLater.exit_code)
        return retryable | dict.fromkeys(self.refused, CredentialRefused.exit_code)

    def may_ask(self, endpoint: Endpoint) -> bool:
        """Whether to ask there. Not where a scope is missing, after too many refusals, or once the rate
        limit or the server stopped the turn."""
        if self.stopped is not None or endpoint.name in self.denied:
            return False
        return self.refusals[endpoint.name] < REFUSALS_MAX

    def denial_of(self, part: str) -> Denied | None:
        """The first refusal of a part that names a missing scope."""
        return next((error for of, error in self.denied.values() if of == part), None)

    def record(self, part: str, what: str, error: MirrorError, endpoint: Endpoint) -> None:
        """Note that `what` could not be read. Raises `error` where it concerns more than this part."""
        if isinstance(error, Denied) and error.required:
            self.denied[endpoint.name] = part, error
        elif isinstance(error, Denied | NotFound):
            self.refusals[endpoint.name] += 1
        if isinstance(error, RateLimited):
            self.stopped = error
            return
        if isinstance(error, TryLater):
            self.retryable.add(part)
            self._trouble += 1
            if self._trouble >= TROUBLE_MAX:
                self.stopped = error
        elif not isinstance(error, ApiError):
            raise error
        self.texts[part].append(f"{what}: {error.message}")
