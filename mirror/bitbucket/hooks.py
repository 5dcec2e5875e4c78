"""Webhooks of a workspace: which events announce what, and how one is shown, made, changed and removed.

Sources: `webhook_subscription` and `/workspaces/{workspace}/hooks` in Bitbucket's OpenAPI document, and
support.atlassian.com, "Event payloads".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from mirror.bitbucket import endpoints, writes
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, NotFound
from mirror.bitbucket.lists import all_of
from mirror.model import JsonObject

_HOOK = writes.WORKSPACE_HOOKS
_CHANGE = _HOOK.change.endpoint if _HOOK.change is not None else _HOOK.endpoint
# API tokens need another scope to remove one (Bitbucket's OpenAPI document).
_REMOVE = replace(_CHANGE, api_token_scope="delete:webhook:bitbucket")  # noqa: S106 - the name of a scope

# Code, the repository itself, and what is said of commits. `repo:fork` is about another repository,
# `project:updated` names none, and what `pipeline:span_created` tells, statuses of commits tell too.
OF_REPOSITORIES = frozenset(
    {"repo:push", "repo:created", "repo:deleted", "repo:imported", "repo:transfer", "repo:updated",
     "repo:commit_comment_created", "repo:commit_status_created", "repo:commit_status_updated"}
)  # fmt: skip
# Tasks have no event.
OF_PULL_REQUESTS = frozenset(
    f"pullrequest:{one}"
    for one in (
        "approved", "changes_request_created", "changes_request_removed", "comment_created",
        "comment_deleted", "comment_reopened", "comment_resolved", "comment_updated", "created", "fulfilled",
        "push", "rejected", "unapproved", "updated",
    )
)  # fmt: skip
OF_ISSUES = frozenset({"issue:comment_created", "issue:created", "issue:updated"})


@dataclass(frozen=True)
class Hook:
    """A webhook as Bitbucket shows it. Its secret is never shown, only whether it has one."""

    uuid: str
    url: str
    description: str
    events: frozenset[str]
    is_active: bool
    has_secret: bool


@dataclass(frozen=True)
class WantedHook:
    """A webhook to be made. Its secret proves to us who sends."""

    url: str
    description: str
    events: frozenset[str]
    secret: str

    def without_issues(self) -> WantedHook:
        """The same without the events of issues: trackers are retired, no access token has their scope."""
        return replace(self, events=self.events - OF_ISSUES)

    def to_json(self) -> JsonObject:
        """The body of a request that makes it or changes one into it."""
        return {
            "description": self.description, "url": self.url, "active": True, "secret": self.secret,
            "events": sorted(self.events),
        }  # fmt: skip


async def hooks_of(client: Client, workspace: str) -> list[Hook]:
    """The webhooks of a workspace. Raises the errors of `mirror.bitbucket.failures`."""
    return [_hook(one) for one in await all_of(client, endpoints.WORKSPACE_HOOKS, None, workspace=workspace)]


async def make(client: Client, workspace: str, wanted: WantedHook) -> frozenset[str]:
    """Make a webhook; returns its events. Raises as `hooks_of`."""
    return await _send(client, "POST", _HOOK.endpoint, wanted, workspace=workspace)


async def change(client: Client, workspace: str, uuid: str, wanted: WantedHook) -> frozenset[str]:
    """Change a webhook into the wanted one; returns its events. Raises as `hooks_of`."""
    return await _send(client, "PUT", _CHANGE, wanted, workspace=workspace, id=uuid)


async def remove(client: Client, workspace: str, uuid: str) -> None:
    """Remove a webhook; one that is not there any more is no error. Raises as `hooks_of`."""
    try:
        await client.send(Change("DELETE"), _REMOVE, workspace=workspace, id=uuid)
    except NotFound:
        return


def scope_needed(error: Denied) -> str:
    """The scopes that a refusal asks for; where it names none, those that webhooks need."""
    return ", ".join(error.required) or f"{_HOOK.endpoint.scope} ({_HOOK.endpoint.api_token_scope})"


async def _send(
    client: Client, method: Literal["POST", "PUT"], endpoint: Endpoint, wanted: WantedHook, **parts: str
) -> frozenset[str]:
    several = [wanted, wanted.without_issues()] if wanted.events & OF_ISSUES else [wanted]
    for one in several:
        try:
            await client.send(Change(method, one.to_json()), endpoint, **parts)
        except ApiError as error:
            if one is several[-1] or error.status not in (400, 403):
                raise
        else:
            return one.events
    raise AssertionError("unreachable")


def _hook(shown: JsonObject) -> Hook:
    """A webhook of a list. Raises BadAnswer where it is none."""
    uuid, url, events = shown.get("uuid"), shown.get("url"), shown.get("events")
    if not isinstance(uuid, str) or not isinstance(url, str) or not isinstance(events, list):
        raise BadAnswer(f"{endpoints.WORKSPACE_HOOKS.name}: an entry that is no webhook")
    return Hook(
        uuid, url, str(shown.get("description") or ""), _texts(events), shown.get("active") is not False,
        shown.get("secret_set") is True,
    )  # fmt: skip


def _texts(several: Iterable[object]) -> frozenset[str]:
    return frozenset(one for one in several if isinstance(one, str))
