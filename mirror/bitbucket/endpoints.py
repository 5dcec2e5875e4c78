"""The endpoints of Bitbucket's API that a backup uses.

A page size above an endpoint's maximum is refused, not lowered: pull requests and their activity accept 50,
although Atlassian's documentation says 100. Each scope has two names: one for access tokens and OAuth, one
for users' API tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirror.http import requests

Query = Mapping[str, str | Sequence[str]]

JSON = "application/json"
# For files: some, such as step logs, are refused (406) to requests that accept only JSON.
BYTES = "*/*"


@dataclass(frozen=True)
class Endpoint(requests.Endpoint):
    """One endpoint.

    `page_size` is the largest accepted page size (0: not a list). `counts_pages` marks lists that have been
    seen without `next`. `group` is the group of resources of the rate limit. `accept` is the accepted media
    type.
    """

    scope: str
    api_token_scope: str
    page_size: int = 0
    query: Query = field(default_factory=dict)
    counts_pages: bool = False
    group: str = "api"
    accept: str = JSON


_R = "/repositories/{workspace}/{repository}"
_PR = _R + "/pullrequests/{id}"
_ISSUE = _R + "/issues/{id}"
_REPO = ("repository", "read:repository:bitbucket")
_PULL = ("pullrequest", "read:pullrequest:bitbucket")
_PIPE = ("pipeline", "read:pipeline:bitbucket")
_ISSUES = ("issue", "read:issue:bitbucket")
_ADMIN = ("repository:admin", "admin:repository:bitbucket")
_HOOK = ("webhook", "read:webhook:bitbucket")
_RUN = ("runner", "read:runner:bitbucket")
_WORKSPACE = ("account", "read:workspace:bitbucket")
_PROJECT_ADMIN = ("project:admin", "admin:project:bitbucket")
_SNIPPET = ("snippet", "read:snippet:bitbucket")
_W = "/workspaces/{workspace}"
_PROJECT = _W + "/projects/{project}"
_SNIPPETS = "/snippets/{workspace}"

USER_WORKSPACES = Endpoint("workspaces of the credential", "/user/workspaces", *_WORKSPACE, 100)
USER = Endpoint("user", "/user", "account", "read:user:bitbucket")
WORKSPACE = Endpoint("workspace", _W, *_WORKSPACE)
REPOSITORIES = Endpoint("repositories", "/repositories/{workspace}", *_REPO, 100)
REPOSITORY = Endpoint("repository", _R, *_REPO)

# Without states only open pull requests are listed, and without `fields` no participants and reviewers.
# No `sort`: with several states it has failed for large repositories.
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
# What a restore sends. Whoever may read a pull request may also comment on it.
_OPEN = ("pullrequest:write", "write:pullrequest:bitbucket")
NEW_PULL_REQUEST = Endpoint("new pull request", _R + "/pullrequests", *_OPEN)
CHANGED_PULL_REQUEST = Endpoint("change of a pull request", _PR, *_OPEN)
PULL_REQUEST_COMMENT = Endpoint("pull request comment", _PR + "/comments/{comment}", *_PULL)
RESOLUTION = Endpoint("resolution of a comment", _PR + "/comments/{comment}/resolve", *_PULL)
PULL_REQUEST_TASK = Endpoint("pull request task", _PR + "/tasks/{task}", *_PULL)

ISSUES = Endpoint("issues", _R + "/issues", *_ISSUES, 100)
ISSUE_COMMENTS = Endpoint("issue comments", _ISSUE + "/comments", *_ISSUES, 100)
ISSUE_CHANGES = Endpoint("issue changes", _ISSUE + "/changes", *_ISSUES, 100)
ISSUE_ATTACHMENTS = Endpoint("issue attachments", _ISSUE + "/attachments", *_ISSUES, 100)

# The trailing slash is needed: without it the response has been 404.
PIPELINES = Endpoint("pipelines", _R + "/pipelines/", *_PIPE, 100, {"sort": "-created_on"}, counts_pages=True)
PIPELINE_STEPS = Endpoint(
    "pipeline steps", _R + "/pipelines/{pipeline}/steps/", *_PIPE, 100, counts_pages=True
)
STEP_LOG = Endpoint("step log", _R + "/pipelines/{pipeline}/steps/{step}/log", *_PIPE, accept=BYTES)
# The log of a service container; the uuid of the step itself gives the step's own log.
SERVICE_LOG = Endpoint(
    "service log", _R + "/pipelines/{pipeline}/steps/{step}/logs/{log}", *_PIPE, accept=BYTES
)
PIPELINE = Endpoint("pipeline", _R + "/pipelines/{pipeline}", *_PIPE)
_STEP = _R + "/pipelines/{pipeline}/steps/{step}"
TEST_REPORT = Endpoint("test report", _STEP + "/test_reports", *_PIPE)
TEST_CASES = Endpoint("test cases", _STEP + "/test_reports/test_cases", *_PIPE, 100)
TEST_CASE_REASONS = Endpoint(
    "test case reasons", _STEP + "/test_reports/test_cases/{case}/test_case_reasons", *_PIPE, 100
)

# The same entries as each pull request's own activity, in one list for all of them.
PULL_REQUESTS_ACTIVITY = Endpoint("activity of all pull requests", _R + "/pullrequests/activity", *_PULL, 50)
PULL_REQUEST_PATCH = Endpoint("pull request patch", _PR + "/patch", *_PULL, accept=BYTES)
# Of two hashes, the source comes first.
PATCH = Endpoint("patch", _R + "/patch/{source}..{destination}", *_REPO, accept=BYTES)
COMMIT = Endpoint("commit", _R + "/commit/{commit}", *_REPO)
COMMIT_STATUSES = Endpoint("commit statuses", _R + "/commit/{commit}/statuses", *_REPO, 100)
COMMIT_COMMENTS = Endpoint("commit comments", _R + "/commit/{commit}/comments", *_REPO, 100)
COMMIT_REPORTS = Endpoint("code insights", _R + "/commit/{commit}/reports", *_REPO, 100)
REPORT_ANNOTATIONS = Endpoint(
    "code insights' annotations", _R + "/commit/{commit}/reports/{report}/annotations", *_REPO, 100
)
COMMIT_COMMENT = Endpoint("commit comment", _R + "/commit/{commit}/comments/{comment}", *_REPO)
COMMIT_REPORT = Endpoint("code insights report", _R + "/commit/{commit}/reports/{report}", *_REPO)

MILESTONES = Endpoint("milestones", _R + "/milestones", *_ISSUES, 100)
VERSIONS = Endpoint("versions", _R + "/versions", *_ISSUES, 100)
COMPONENTS = Endpoint("components", _R + "/components", *_ISSUES, 100)
ISSUE_ATTACHMENT = Endpoint(
    "issue attachment", _ISSUE + "/attachments/{name}", *_ISSUES, group="files", accept=BYTES
)

# Settings of a repository.
BRANCH_RESTRICTIONS = Endpoint("branch restrictions", _R + "/branch-restrictions", *_ADMIN, 100)
BRANCHING_MODEL = Endpoint("branching model", _R + "/branching-model", *_REPO)
BRANCHING_MODEL_SETTINGS = Endpoint("branching model settings", _R + "/branching-model/settings", *_ADMIN)
DEFAULT_REVIEWERS = Endpoint("default reviewers", _R + "/default-reviewers", *_PULL, 100)
DEPLOY_KEYS = Endpoint("deploy keys", _R + "/deploy-keys", *_ADMIN, 100)
HOOKS = Endpoint("webhooks", _R + "/hooks", *_HOOK, 100, group="hooks")
USER_PERMISSIONS = Endpoint("users' permissions", _R + "/permissions-config/users", _ADMIN[0], _REPO[1], 100)
GROUP_PERMISSIONS = Endpoint(
    "groups' permissions", _R + "/permissions-config/groups", _ADMIN[0], _REPO[1], 100
)
OVERRIDE_SETTINGS = Endpoint("override settings", _R + "/override-settings", *_ADMIN)
# The only source of them. Everything else about a branch is in git, and changes with every push.
MERGE_STRATEGIES = Endpoint(
    "merge strategies", _R + "/refs/branches/{branch}", *_REPO,
    query={"fields": "name,merge_strategies,default_merge_strategy"},
)  # fmt: skip
BRANCH = Endpoint("branch", _R + "/refs/branches/{branch}", *_REPO)
WATCHERS = Endpoint("watchers", _R + "/watchers", *_REPO, 100)
FORKS = Endpoint("forks", _R + "/forks", *_REPO, 100)
DOWNLOADS = Endpoint("downloads", _R + "/downloads", *_REPO, 100)
DOWNLOAD = Endpoint("download", _R + "/downloads/{name}", *_REPO, group="files", accept=BYTES)
ENVIRONMENTS = Endpoint("environments", _R + "/environments", *_PIPE, 100, counts_pages=True)
ENVIRONMENT_VARIABLES = Endpoint(
    "environment variables", _R + "/deployments_config/environments/{environment}/variables", *_PIPE, 100,
    counts_pages=True,
)  # fmt: skip
DEPLOYMENTS = Endpoint("deployments", _R + "/deployments/", *_PIPE, 100, counts_pages=True)
PIPELINES_CONFIG = Endpoint("pipelines configuration", _R + "/pipelines_config", *_ADMIN)
VARIABLES = Endpoint("variables", _R + "/pipelines_config/variables", *_PIPE, 100, counts_pages=True)
SCHEDULES = Endpoint("schedules", _R + "/pipelines_config/schedules", *_PIPE, 100, counts_pages=True)
SCHEDULE_EXECUTIONS = Endpoint(
    "schedule executions", _R + "/pipelines_config/schedules/{schedule}/executions", *_PIPE, 100,
    counts_pages=True,
)  # fmt: skip
KNOWN_HOSTS = Endpoint(
    "known hosts", _R + "/pipelines_config/ssh/known_hosts", *_PIPE, 100, counts_pages=True
)
KEY_PAIR = Endpoint("ssh key pair", _R + "/pipelines_config/ssh/key_pair", *_PIPE)
# With a hyphen here, and an underscore above: so it is in the API.
CACHES = Endpoint("caches", _R + "/pipelines-config/caches", *_PIPE, 100, counts_pages=True)
RUNNERS = Endpoint("runners", _R + "/pipelines-config/runners", *_RUN, 100, counts_pages=True)

# A workspace and its projects.
MEMBERS = Endpoint("members", _W + "/members", *_WORKSPACE, 100)
ROLES = Endpoint("roles", _W + "/permissions", *_WORKSPACE, 100)
REPOSITORY_PERMISSIONS = Endpoint(
    "repository permissions", _W + "/permissions/repositories", "account", _REPO[1], 100
)
WORKSPACE_HOOKS = Endpoint("workspace webhooks", _W + "/hooks", *_HOOK, 100, group="hooks")
WORKSPACE_VARIABLES = Endpoint("workspace variables", _W + "/pipelines-config/variables", *_PIPE, 100)
WORKSPACE_RUNNERS = Endpoint("workspace runners", _W + "/pipelines-config/runners", *_RUN, 100)
# The public key with which Bitbucket signs its own commits.
SYSTEM_KEY = Endpoint("system GPG key", _W + "/settings/gpg/public-key", *_WORKSPACE, accept=BYTES)
PROJECTS = Endpoint("projects", _W + "/projects", "project", "read:project:bitbucket", 100)
PROJECT = Endpoint("project", _PROJECT, "project", "read:project:bitbucket")
PROJECT_REVIEWERS = Endpoint(
    "project default reviewers", _PROJECT + "/default-reviewers", _PROJECT_ADMIN[0], _PULL[1], 100
)
PROJECT_MODEL = Endpoint(
    "project branching model", _PROJECT + "/branching-model", _PROJECT_ADMIN[0], _REPO[1]
)
PROJECT_MODEL_SETTINGS = Endpoint(
    "project branching model settings", _PROJECT + "/branching-model/settings", *_PROJECT_ADMIN
)
PROJECT_KEYS = Endpoint("project deploy keys", _PROJECT + "/deploy-keys", *_PROJECT_ADMIN, 100)
PROJECT_USERS = Endpoint(
    "project users' permissions", _PROJECT + "/permissions-config/users", _PROJECT_ADMIN[0],
    "read:project:bitbucket", 100,
)  # fmt: skip
PROJECT_GROUPS = Endpoint(
    "project groups' permissions", _PROJECT + "/permissions-config/groups", _PROJECT_ADMIN[0],
    "read:project:bitbucket", 100,
)  # fmt: skip
SNIPPETS = Endpoint("snippets", _SNIPPETS, *_SNIPPET, 100)
SNIPPET = Endpoint("snippet", _SNIPPETS + "/{snippet}", *_SNIPPET)
SNIPPET_COMMENTS = Endpoint("snippet comments", _SNIPPETS + "/{snippet}/comments", *_SNIPPET, 100)
SNIPPET_COMMENT = Endpoint(
    "snippet comment", _SNIPPETS + "/{snippet}/comments/{comment}", "snippet", "write:snippet:bitbucket"
)
SNIPPET_COMMITS = Endpoint("snippet commits", _SNIPPETS + "/{snippet}/commits", *_SNIPPET, 100)
SNIPPET_FILE = Endpoint("snippet file", _SNIPPETS + "/{snippet}/{node}/files/{name}", *_SNIPPET, accept=BYTES)
# Redirects to the newest revision of the file.
SNIPPET_FILE_NOW = Endpoint("snippet file", _SNIPPETS + "/{snippet}/files/{name}", *_SNIPPET, accept=BYTES)


def updated_since(time: str) -> Query:
    """The query for what was updated at `time` (ISO 8601) or later."""
    return {"q": f"updated_on >= {time}"}


def in_project(key: str) -> Query:
    """The query for the repositories of one project; narrow tokens may list no other way."""
    return {"q": 'project.key="{}"'.format(key.replace("\\", "").replace('"', ""))}


def entries(count: int) -> Query:
    """The query for pages of `count` entries."""
    return {"pagelen": str(count)}
