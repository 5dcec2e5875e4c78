"""The bodies of requests to Forgejo, and what its answers are known by.

A value may be anything that stands for one until the request is sent, such as the id of a label that a plan
only names.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence

from mirror.model import Json

# What the answers of issues, pull requests, comments, labels, … are known by.
NUMBER, ID, BODY, NAME, TITLE, TAG = "number", "id", "body", "name", "title", "tag_name"
ATTACHMENT = "attachment"  # the field of a multipart body
HOOK_URL, RULE, KEY = "config.url", "rule_name", "key"
DESCRIPTION_MAX = 2048
# The fields of a protection that name users.
USERS = ("push_whitelist_usernames", "merge_whitelist_usernames")
# Merge checks and others of Bitbucket's restrictions. No protected branch can be rewritten or deleted there.
_CHECKS: Mapping[str, dict[str, object]] = {
    "require_no_changes_requested": {"block_on_rejected_reviews": True},
    "reset_pullrequest_approvals_on_change": {"dismiss_stale_approvals": True},
    "force": {},
    "delete": {},
}
WEBSITE_MAX = 1024
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# What is compared of a repository that exists.
COMPARED = ("private", "description")
WIKI_BRANCH = "wiki_branch"

# Bitbucket's events by those of Forgejo's webhooks.
_EVENTS = {
    "repo:push": "push",
    "repo:fork": "fork",
    "repo:updated": "repository",
    "pullrequest:created": "pull_request",
    "pullrequest:updated": "pull_request",
    "pullrequest:fulfilled": "pull_request",
    "pullrequest:rejected": "pull_request",
    "pullrequest:approved": "pull_request_review",
    "pullrequest:unapproved": "pull_request_review",
    "pullrequest:changes_request_created": "pull_request_review",
    "pullrequest:comment_created": "pull_request_comment",
    "pullrequest:comment_updated": "pull_request_comment",
    "pullrequest:comment_deleted": "pull_request_comment",
    "issue:created": "issues",
    "issue:updated": "issues",
    "issue:comment_created": "issue_comment",
}


def repository(
    name: str, *, private: bool, description: str, default_branch: str | None
) -> dict[str, object]:
    """A new repository."""
    body: dict[str, object] = {
        NAME: name,
        "private": private,
        "description": description[:DESCRIPTION_MAX],
        "auto_init": False,
    }
    return body if default_branch is None else {**body, "default_branch": default_branch}


def label(name: str, color: str, description: str) -> dict[str, object]:
    """A label; `color` is `#rrggbb`."""
    return {NAME: name, "color": color, "description": description}


def milestone(title: str) -> dict[str, object]:
    """An open milestone."""
    return {TITLE: title, "state": "open"}


def issue(
    title: str,
    body: str,
    *,
    labels: Sequence[object],
    closed: bool,
    milestone: object = None,
    assignees: Sequence[str] = (),
) -> dict[str, object]:
    """An issue; labels and the milestone by their ids, assignees by their user names."""
    made: dict[str, object] = {TITLE: title, BODY: body, "labels": list(labels), "closed": closed}
    if milestone is not None:
        made["milestone"] = milestone
    return {**made, "assignees": list(assignees)} if assignees else made


def pull_request(
    title: str, body: str, *, head: str, base: str, labels: Sequence[object], draft: bool
) -> dict[str, object]:
    """A pull request between two branches. Forgejo knows a draft by the beginning of its title."""
    prefix = "WIP: " if draft else ""
    return {TITLE: prefix + title, BODY: body, "head": head, "base": base, "labels": list(labels)}


def comment(body: str) -> dict[str, object]:
    """A comment."""
    return {BODY: body}


def release(tag: str, target: str, name: str, body: str) -> dict[str, object]:
    """A release that is not the latest one; the server makes its tag where there is none."""
    return {TAG: tag, "target_commitish": target, NAME: name, BODY: body, "prerelease": True}


def deploy_key(title: str, key: str) -> dict[str, object]:
    """A deploy key that may only read."""
    return {TITLE: title, KEY: key, "read_only": True}


def hook(url: str, events: Sequence[str], *, active: bool, secret: object = None) -> dict[str, object]:
    """A webhook. Servers before Forgejo know the type as `gitea`, and so do all after."""
    config: dict[str, object] = {"url": url, "content_type": "json"}
    if secret is not None:
        config["secret"] = secret
    return {"type": "gitea", "config": config, "events": list(events), "active": active}


def events_of(events: Sequence[str]) -> tuple[list[str], list[str]]:
    """Forgejo's events for Bitbucket's, and those of Bitbucket that it does not have."""
    known = list(dict.fromkeys(_EVENTS[one] for one in events if one in _EVENTS))
    return known, [one for one in events if one not in _EVENTS]


def protection(rule: str, wanted: Mapping[str, object]) -> dict[str, object]:
    """The protection of the branches that match `rule`."""
    return {RULE: rule, **wanted}


def may_push(users: Sequence[str] | None) -> dict[str, object]:
    """Who may push to protected branches: `users`, nobody where there are none, everybody for None."""
    if users is None:
        return {"enable_push": True}
    if not users:
        return {"enable_push": False}
    return {"enable_push": True, "enable_push_whitelist": True, "push_whitelist_usernames": list(users)}


def may_merge(users: Sequence[str]) -> dict[str, object]:
    """Who may merge into protected branches."""
    return {"enable_merge_whitelist": True, "merge_whitelist_usernames": list(users)}


def merge_check(kind: str, value: int | None) -> dict[str, object] | None:
    """What Forgejo has for a merge check of Bitbucket; None where it has nothing like it."""
    if kind == "require_approvals_to_merge":
        return {"required_approvals": value or 1}
    return _CHECKS.get(kind)


def website(url: str) -> dict[str, object]:
    """A change of a repository's website."""
    return {"website": url[:WEBSITE_MAX]}


def default_branch(name: str) -> dict[str, object]:
    """A change of a repository's default branch."""
    return {"default_branch": name}


def wiki_branch(name: str) -> dict[str, object]:
    """A change of the branch that a wiki shows."""
    return {"has_wiki": True, WIKI_BRANCH: name}


def wiki_page(title: str, text: str, message: str) -> dict[str, object]:
    """A page of a wiki."""
    content = b64encode(text.encode()).decode("ascii")
    return {TITLE: title, "content_base64": content, "message": message}


def login_of(user: Json) -> str | None:
    """The name of a user; None where it is no user."""
    login = user.get("login") if isinstance(user, dict) else None
    return login if isinstance(login, str) and login else None


def is_name(text: str) -> bool:
    """Whether an owner or repository may have this name."""
    return (
        _NAME.fullmatch(text) is not None and text not in (".", "..") and not text.endswith((".git", ".wiki"))
    )
