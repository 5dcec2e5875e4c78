"""Whether a name still means the repository that was listed under it.

Between the list and the fetch a repository may be deleted and another one of the same name created. What was
fetched then belongs to the other one, and must not get into this one's snapshots.
"""

from __future__ import annotations

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.errors import MirrorError, TryLater
from mirror.git.mirrors.fetch import FetchResult
from mirror.logs import get_logger
from mirror.model import Repository

_log = get_logger("backup")


class AnotherRepository(TryLater):
    """The name belongs to another repository now."""


def is_suspect(result: FetchResult) -> bool:
    """Whether what was fetched could belong to another repository: a ref lost commits, or nothing was known
    before. Only then is the identity checked, because that takes a request."""
    lossy = any(change.kind in ("rewritten", "removed") for change in result.changes)
    created = sum(change.kind == "created" for change in result.changes)
    return lossy or (created > 0 and created == len(result.refs.refs))


async def check_identity(client: Client, repository: Repository) -> None:
    """Raise AnotherRepository where the name means another repository by now. Where the API does not say,
    the repository counts as the same. The rate limit is not waited for."""
    client = client.with_priority(Priority.OPEN, until=client.clock.monotonic())
    names = {"workspace": repository.workspace, "repository": repository.slug}
    try:
        answer = await client.get(endpoints.REPOSITORY, None, **names)
        now = fields.repository(answer.data, workspace=repository.workspace)
    except MirrorError as error:
        _log.info("backup.identity_unknown", repository=repository.full_name, reason=error.message)
        return
    if now.uuid != repository.uuid.lower():
        raise AnotherRepository(
            f"its name was given to another repository ({now.uuid}) meanwhile; nothing of that one was kept"
        )
