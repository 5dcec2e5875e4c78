"""Where a plan for a Forgejo restores to."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.forgejo import endpoints
from mirror.forgejo.endpoints import Endpoint


@dataclass(frozen=True)
class ForgejoTarget:
    """The repository `name` of `owner`, which is an organisation, or the user whose token is used."""

    owner: str
    name: str
    is_organisation: bool

    @property
    def parts(self) -> dict[str, str]:
        """The parts of every path of the repository."""
        return {"owner": self.owner, "repository": self.name}

    @property
    def new_repository(self) -> tuple[Endpoint, dict[str, str]]:
        """Where the repository is made, with the parts of that path."""
        if self.is_organisation:
            return endpoints.ORGANISATION_REPOSITORIES, {"owner": self.owner}
        return endpoints.USER_REPOSITORIES, {}
