"""The endpoints of Forgejo's API that a restore uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.http import requests

# Below the URL of the server.
ROOT = "/api/v1"
# The largest page that a server serves unless its administrator chose otherwise.
PAGE_SIZE = 50


@dataclass(frozen=True)
class Endpoint(requests.Endpoint):
    """One endpoint. `is_paged` marks lists in pages; the other lists come whole."""

    query: Mapping[str, str] = field(default_factory=dict)
    is_paged: bool = False


_R = "/repos/{owner}/{repository}"
# By default these lists have only what is open.
_ALL = {"state": "all"}

USER = Endpoint("user", "/user")
ORGANISATION = Endpoint("organisation", "/orgs/{owner}")
USER_REPOSITORIES = Endpoint("the user's repositories", "/user/repos")
ORGANISATION_REPOSITORIES = Endpoint("the organisation's repositories", "/orgs/{owner}/repos")
REPOSITORY = Endpoint("repository", _R)
LABELS = Endpoint("labels", _R + "/labels", is_paged=True)
MILESTONES = Endpoint("milestones", _R + "/milestones", _ALL, is_paged=True)
ISSUES = Endpoint("issues", _R + "/issues", {**_ALL, "type": "issues"}, is_paged=True)
NEW_ISSUE = Endpoint("issues", _R + "/issues")
# Of issues and of pull requests.
COMMENTS = Endpoint("comments", _R + "/issues/{index}/comments")
ATTACHMENTS = Endpoint("attachments", _R + "/issues/{index}/assets")
PULL_REQUESTS = Endpoint("pull requests", _R + "/pulls", _ALL, is_paged=True)
NEW_PULL_REQUEST = Endpoint("pull requests", _R + "/pulls")
RELEASES = Endpoint("releases", _R + "/releases", is_paged=True)
ASSETS = Endpoint("assets of a release", _R + "/releases/{id}/assets")
HOOKS = Endpoint("webhooks", _R + "/hooks", is_paged=True)
BRANCH_PROTECTIONS = Endpoint("branch protections", _R + "/branch_protections")
DEPLOY_KEYS = Endpoint("deploy keys", _R + "/keys", is_paged=True)
WIKI_PAGES = Endpoint("wiki pages", _R + "/wiki/pages", is_paged=True)
NEW_WIKI_PAGE = Endpoint("wiki pages", _R + "/wiki/new")
