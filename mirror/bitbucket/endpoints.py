"""The addresses of Bitbucket's API that a backup asks, and what is known of each.

Page sizes above an endpoint's cap are refused, not lowered: pull requests and their activity take
50, although Atlassian's own document says 100. Scopes are named twice, as access tokens and OAuth
call them and as users' API tokens do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

Query = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Endpoint:
    """One address. `template` has `{names}` for what `path` fills in, percent-encoded.

    `page_size` is the most that a page may be asked to hold (0: not a list). `counts_pages` marks
    lists that have been seen without `next`. `group` is the rate limit's group of resources.
    """

    name: str
    template: str
    scope: str
    api_token_scope: str
    page_size: int = 0
    query: Query = field(default_factory=dict)
    counts_pages: bool = False
    group: str = "api"

    def path(self, **parts: str | int) -> str:
        """The path below the API's root, every part encoded (`{uuid}` becomes `%7Buuid%7D`)."""
        return self.template.format(**{name: quote(str(part), safe="") for name, part in parts.items()})


_R = "/repositories/{workspace}/{repository}"
_PR = _R + "/pullrequests/{id}"
_ISSUE = _R + "/issues/{id}"
_REPO = ("repository", "read:repository:bitbucket")
_PULL = ("pullrequest", "read:pullrequest:bitbucket")
_PIPE = ("pipeline", "read:pipeline:bitbucket")
_ISSUES = ("issue", "read:issue:bitbucket")

USER_WORKSPACES = Endpoint(
    "workspaces of the credential", "/user/workspaces", "account", "read:workspace:bitbucket", 100
)
WORKSPACE = Endpoint("workspace", "/workspaces/{workspace}", "account", "read:workspace:bitbucket")
REPOSITORIES = Endpoint("repositories", "/repositories/{workspace}", *_REPO, 100)
REPOSITORY = Endpoint("repository", _R, *_REPO)

# Only open pull requests come unless each state is named; participants and reviewers are in a
# list only when asked for. No `sort`: with several states it has made large repositories fail.
PULL_REQUESTS = Endpoint(
    "pull requests",
    _R + "/pullrequests",
    *_PULL,
    50,
    {
        "state": ("OPEN", "MERGED", "DECLINED", "SUPERSEDED"),
        "fields": "+values.participants,+values.reviewers",
    },
)
PULL_REQUEST = Endpoint("pull request", _PR, *_PULL)
PULL_REQUEST_COMMENTS = Endpoint("pull request comments", _PR + "/comments", *_PULL, 100)
PULL_REQUEST_TASKS = Endpoint("pull request tasks", _PR + "/tasks", *_PULL, 100)
PULL_REQUEST_ACTIVITY = Endpoint("pull request activity", _PR + "/activity", *_PULL, 50)
PULL_REQUEST_STATUSES = Endpoint("pull request statuses", _PR + "/statuses", *_PULL, 100)
PULL_REQUEST_COMMITS = Endpoint("pull request commits", _PR + "/commits", *_PULL, 100)

ISSUES = Endpoint("issues", _R + "/issues", *_ISSUES, 100)
ISSUE_COMMENTS = Endpoint("issue comments", _ISSUE + "/comments", *_ISSUES, 100)
ISSUE_CHANGES = Endpoint("issue changes", _ISSUE + "/changes", *_ISSUES, 100)
ISSUE_ATTACHMENTS = Endpoint("issue attachments", _ISSUE + "/attachments", *_ISSUES, 100)

# The slash at the end is needed: without it the answer has been 404.
PIPELINES = Endpoint("pipelines", _R + "/pipelines/", *_PIPE, 100, {"sort": "-created_on"}, counts_pages=True)
PIPELINE_STEPS = Endpoint(
    "pipeline steps", _R + "/pipelines/{pipeline}/steps/", *_PIPE, 100, counts_pages=True
)
STEP_LOG = Endpoint("step log", _R + "/pipelines/{pipeline}/steps/{step}/log", *_PIPE)


def updated_since(time: str) -> Query:
    """The query for what was updated at `time` (ISO 8601) or later."""
    return {"q": f"updated_on >= {time}"}


def in_project(key: str) -> Query:
    """The query for the repositories of one project; narrow tokens may list no other way."""
    return {"q": 'project.key="{}"'.format(key.replace("\\", "").replace('"', ""))}


def entries(count: int) -> Query:
    """The query for pages of `count` entries."""
    return {"pagelen": str(count)}
