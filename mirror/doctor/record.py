"""Saves redacted responses of the endpoints in use, for tests to replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mirror.bitbucket import endpoints, recording
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Answer, Client
from mirror.bitbucket.endpoints import JSON, Endpoint
from mirror.bitbucket.failures import ApiError, Denied, Gone, NotFound
from mirror.collect.catalogue import CATALOGUE
from mirror.config.settings import Config
from mirror.connect import client_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.doctor.access import rest_of
from mirror.errors import MirrorError, TryLater, worst
from mirror.model import Clock, dumps

# After this many server failures in a row the other endpoints are skipped.
FAILURES_MAX = 3


@dataclass
class Recorded:
    """The files of a recording, and by endpoint why its response is missing. `exit_code` is 0 where
    everything that the credential can read was recorded."""

    written: list[Path] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


async def record(
    config: Config,
    folder: Path,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Recorded:
    """Save one redacted response of each endpoint in use to `folder`.

    What cannot be read is in `missing` with its reason. Read the files before you share them. Raises what
    listing the workspace's repositories raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recorded = Recorded()
    workspace = config.workspaces[0]
    # One salt, so that a name has the same stand-in in all files.
    session = recording.Recording()
    async with client_of(
        config, workspace, clock=clock, environment=environment, budget=budget, transport=transport
    ) as client:
        [target, *_] = await workspaces_of(client, workspace.workspace)
        found = await discover(client, target, Rules(workspace.include, workspace.exclude))
        failures = 0
        several = {row.endpoint.name: row.endpoint for row in CATALOGUE if row.endpoint.accept == JSON}
        for endpoint in several.values():
            if failures >= FAILURES_MAX:
                recorded.missing[endpoint.name] = "not requested: the server failed several times"
                continue
            try:
                answer = await _first_answer(client, endpoint, found)
            except MirrorError as error:
                recorded.missing[endpoint.name] = error.message
                failures = failures + 1 if isinstance(error, TryLater) else 0
                if not isinstance(error, Denied | NotFound | Gone):
                    recorded.exit_code = worst((recorded.exit_code, error.exit_code))
                continue
            failures = 0
            if answer is not None:
                path = folder / f"{endpoint.name.replace(' ', '-')}.json"
                path.write_bytes(dumps(session.redacted(endpoint, answer)))
                recorded.written.append(path)
    return recorded


async def _first_answer(client: Client, endpoint: Endpoint, found: Discovered) -> Answer | None:
    """The response for the first repository that has one; None for an endpoint whose path needs more than
    workspace and repository. Raises the last ApiError where there is none, and any other error at once."""
    names: dict[str, str | int] = {"workspace": found.workspace.slug}
    query = endpoints.entries(3) if endpoint.page_size else None
    failure: MirrorError | None = None
    for repository in found.repositories:
        names["repository"] = repository.slug
        if "{" in rest_of(endpoint, names):
            return None
        try:
            return await client.get(endpoint, query, **names)
        except ApiError as error:
            failure = error
    if failure is not None:
        raise failure
    return None
