"""Comments and reports of commits that no branch of a copy ends at: a backup asks about heads only."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import NotFound
from mirror.collect.kinds.commits import CHILDREN, FOLDER
from mirror.model import Json
from mirror.restore.comparison.sides import StoredSide, object_at

# What a restore brings back of it.
_COMPARED = ("comments", "reports")


async def read_commits(
    client: Client, original: StoredSide, copy: StoredSide, workspace: str, slug: str
) -> dict[str, Json]:
    """The documents of the commits that have comments or reports in the original, and that the backup of the
    copy does not have; by path. Raises what reading a list raises; a commit that is not there has none."""
    there, found = frozenset(copy.paths()), {}
    for path in original.paths():
        document = object_at(original, path) if path.startswith(f"{FOLDER}/") and path not in there else {}
        if any(document.get(child) for child in _COMPARED):
            names: Mapping[str, str | int] = {
                "workspace": workspace, "repository": slug, "commit": str(document["commit"]),
            }  # fmt: skip
            try:
                found[path] = {name: await CHILDREN[name].ask(client, names) for name in _COMPARED}
            except NotFound:
                continue
    return found
