"""An empty simulated Bitbucket to restore into, on loopback and in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.auth.credentials import ApiToken
from mirror.auth.secrets import SecretSource
from mirror.config.settings import BitbucketUrls, Config, Limits, NetworkConfig, WorkspaceConfig

_EMAIL = "drill@mirror.example"
_TOKEN = "MIRROR_DRILL_TOKEN"  # noqa: S105 - the name of a variable
# Nothing holds back requests in a drill: the plan knows what the real limits mean.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Members:
    """Who is in the workspace: the names of users by uuid, and those of groups by slug."""

    users: Mapping[str, str]
    groups: Mapping[str, str]


@dataclass(frozen=True)
class Upstream:
    """A running simulated Bitbucket. `config` reaches it and stores at `config.store`; `environment` is that
    of the process, with the credential that `config` names."""

    config: Config
    environment: Mapping[str, str]


@contextmanager
def simulated(
    folder: Path, workspace: str, members: Members, environment: Mapping[str, str], limits: Limits
) -> Iterator[Upstream]:
    """Run a Bitbucket with the empty workspace `workspace` below `folder`, until the block ends.

    Whoever restores into it is an account of its own that may do everything, so that all people of the
    original can be reviewers.
    """
    from mirror.simulator import EVERY_SCOPE, Simulator, World

    world = World(folder / "upstream", limit=_NO_LIMIT)
    world.limits["git"] = _NO_LIMIT
    world.add_workspace(workspace).groups.update(members.groups)
    for uuid, name in members.users.items():
        world.add_user(name, f"{uuid.strip('{}')}@members.example", uuid=uuid)
    secret = world.add_api_token(world.add_user("Drill", _EMAIL), EVERY_SCOPE)
    with Simulator(world) as simulator:
        config = Config(
            store=folder / "copy",
            bitbucket=BitbucketUrls(simulator.api_url, simulator.git_url, simulator.oauth_url),
            workspaces=(WorkspaceConfig(workspace, (ApiToken(_EMAIL, SecretSource("env", _TOKEN)),)),),
            limits=replace(limits, api_limit=_NO_LIMIT, api_reserve=0),
            network=NetworkConfig(proxy="none"),
        )
        yield Upstream(config, {**environment, _TOKEN: secret})
