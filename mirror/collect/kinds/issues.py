"""Issues, with their attachments."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.failures import ApiError
from mirror.collect.context import Context
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.kind import Child, Kind
from mirror.collect.outcomes import entries_by_name, incomplete
from mirror.model import Json, JsonObject


async def _attachments(context: Context, priority: Priority, number: int, document: JsonObject) -> Json:
    """The attachments of an issue, each with its file. Only one that cannot be read is skipped."""
    client, names = context.client_for(priority), {**context.names, "id": number}
    listed, faults = await entries_by_name(client, endpoints.ISSUE_ATTACHMENTS, names, fields.file_name)
    is_whole = not faults
    held = {one.get("name"): one for one in document.get("attachments") or [] if isinstance(one, dict)}
    kept: list[JsonObject] = []
    for name, one in listed:
        before = held.get(name, {})
        content = before.get("_content")
        if not (content and fields.is_same_file(before, one) and context.draft.has_file(content["sha256"])):
            try:
                places: Mapping[str, str | int] = {**names, "name": name}
                content = await keep_file(context.draft, client, endpoints.ISSUE_ATTACHMENT, name, places)
            except ApiError as error:
                faults.append(error)
                if content:
                    kept.append(before)
                    continue
        kept.append({**one, "_content": content})
    if faults:
        known = [] if is_whole else list(held.values())
        document["attachments"] = fields.with_held(known, kept)
        raise incomplete(faults)
    return fields.ordered(kept)


ISSUES = Kind(
    part="issues",
    key="issue",
    folder="issues",
    noun="issue",
    listing=endpoints.ISSUES,
    children=(
        Child("comments", endpoints.ISSUE_COMMENTS),
        Child("changes", endpoints.ISSUE_CHANGES),
        Child("attachments", endpoints.ISSUE_ATTACHMENTS, ask=_attachments),
    ),
)
