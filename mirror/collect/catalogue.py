"""The catalogue: one row for each kind of thing that Bitbucket has and we keep.

Collecting settings, the scope check of `doctor` and the documentation read it. A new kind is a new
row, and a function that brings its documents up to date where it is no mere setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mirror.bitbucket import endpoints as api
from mirror.bitbucket.endpoints import Endpoint

Upkeep = Literal["every run", "cursor and sweep", "until done", "slowly", "when idle", "where git lacks it"]
Level = Literal["workspace", "project", "repository"]

ACCESS_TOKENS = frozenset(
    {"access_token", "workspace_access_token", "project_access_token", "repository_access_token"}
)
# These see nothing of the workspace that their repositories are in.
NARROW = frozenset({"project_access_token", "repository_access_token"})
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """One kind. `part` is what snapshots and the configuration call it.

    `absence` says what a 404 or 410 for it means; `restorable` whether and how it can be put back
    into Bitbucket. `never_for` are the kinds of credential that can never read it: a refusal is then
    no gap that another scope could fill. Of a setting, `name` is what its document is called.
    """

    kind: str
    part: str
    level: Level
    endpoint: Endpoint
    document: str
    upkeep: Upkeep
    absence: str
    restorable: str
    never_for: frozenset[str] = _NOBODY

    @property
    def name(self) -> str:
        """The kind as parts and documents name it."""
        return self.kind.replace("'", "").replace(" ", "_")

    @property
    def agreed_as(self) -> str:
        """What `accept_missing` calls it, where it is one kind of many: `settings/deploy-keys`."""
        return f"{self.part}/{self.name.replace('_', '-')}"


_OFF = "switched off or never set up; the last good copy is kept"
_KEPT = "the last good copy is kept"
_TRACKER = "Bitbucket removed its issue tracker in August 2026; the last good copy is kept"
_EXIST = "yes, where the people are there"
_BUT_SECRETS = "yes, without what is secret in it"


def _setting(
    kind: str, endpoint: Endpoint, restorable: str, absence: str = _KEPT, *, tokens: bool = True,
    part: str = "settings",
) -> Row:  # fmt: skip
    document = f"settings/{kind.replace(chr(39), '').replace(' ', '-')}.json"
    never = _NOBODY if tokens else ACCESS_TOKENS
    return Row(kind, part, "repository", endpoint, document, "slowly", absence, restorable, never)


def _of_workspace(kind: str, endpoint: Endpoint, restorable: str, *, tokens: bool = True) -> Row:
    document = f"settings/{kind.removeprefix('workspace ').replace(' ', '-')}.json"
    never = NARROW if tokens else ACCESS_TOKENS
    return Row(kind, "settings", "workspace", endpoint, document, "slowly", _KEPT, restorable, never)


def _of_project(kind: str, endpoint: Endpoint, restorable: str, *, tokens: bool = True) -> Row:
    never = frozenset({"repository_access_token"}) if tokens else ACCESS_TOKENS
    return Row(
        kind, "settings", "project", endpoint, "projects/<key>.json", "slowly", _KEPT, restorable, never
    )


def _inside(kind: str, part: str, endpoint: Endpoint, where: str, upkeep: Upkeep, restorable: str) -> Row:
    return Row(kind, part, "repository", endpoint, f"in the {where}", upkeep, _KEPT, restorable)


CATALOGUE: tuple[Row, ...] = (
    Row(
        "workspace profile", "profile", "workspace", api.WORKSPACE, "workspace.json", "every run",
        "the workspace is hidden or gone", "no: a workspace is made by its owner",
    ),
    Row(
        "repository list", "repositories", "workspace", api.REPOSITORIES, "repositories.json",
        "every run", "the credential may not list; the named repositories are asked one by one",
        "as repositories",
    ),
    _of_workspace("members", api.MEMBERS, "no: people are invited"),
    _of_workspace("roles", api.ROLES, "no: people are invited", tokens=False),
    _of_workspace("repository permissions", api.REPOSITORY_PERMISSIONS, _EXIST, tokens=False),
    _of_workspace("workspace webhooks", api.WORKSPACE_HOOKS, _BUT_SECRETS),
    _of_workspace("workspace variables", api.WORKSPACE_VARIABLES, _BUT_SECRETS),
    _of_workspace("workspace runners", api.WORKSPACE_RUNNERS, "no: a runner is registered anew"),
    Row(
        "projects", "settings", "workspace", api.PROJECTS, "projects/<key>.json", "slowly", _KEPT, "yes",
        NARROW,
    ),
    _of_project("project default reviewers", api.PROJECT_REVIEWERS, _EXIST),
    _of_project("project branching model", api.PROJECT_MODEL, "by its settings"),
    _of_project("project branching model settings", api.PROJECT_MODEL_SETTINGS, "yes"),
    _of_project("project deploy keys", api.PROJECT_KEYS, "yes, by a user's credential"),
    _of_project("project users' permissions", api.PROJECT_USERS, _EXIST, tokens=False),
    _of_project("project groups' permissions", api.PROJECT_GROUPS, _EXIST, tokens=False),
    Row(
        "snippets", "snippets", "workspace", api.SNIPPETS, "snippets/<id>.json", "slowly", _KEPT, "yes",
        ACCESS_TOKENS,
    ),
    Row(
        "snippet files", "snippets", "workspace", api.SNIPPET_FILE, "files/", "slowly", _KEPT, "yes",
        ACCESS_TOKENS,
    ),
    Row(
        "snippet comments", "snippets", "workspace", api.SNIPPET_COMMENTS, "in the snippet", "slowly", _KEPT,
        "as new comments", ACCESS_TOKENS,
    ),
    Row(
        "snippet commits", "snippets", "workspace", api.SNIPPET_COMMITS, "in the snippet", "slowly", _KEPT,
        "no", ACCESS_TOKENS,
    ),
    Row(
        "repository profile", "profile", "repository", api.REPOSITORY, "repository.json", "every run",
        "hidden or gone; confirmed over days before it counts", "most fields",
    ),
    _setting("branch restrictions", api.BRANCH_RESTRICTIONS, _EXIST),
    _setting("branching model", api.BRANCHING_MODEL, "by its settings"),
    _setting("branching model settings", api.BRANCHING_MODEL_SETTINGS, "yes"),
    _setting("default reviewers", api.DEFAULT_REVIEWERS, _EXIST),
    _setting("deploy keys", api.DEPLOY_KEYS, "yes, by a user's credential"),
    _setting("webhooks", api.HOOKS, _BUT_SECRETS),
    _setting("users' permissions", api.USER_PERMISSIONS, _EXIST, tokens=False),
    _setting("groups' permissions", api.GROUP_PERMISSIONS, _EXIST, tokens=False),
    _setting("override settings", api.OVERRIDE_SETTINGS, "yes"),
    _setting("merge strategies", api.MERGE_STRATEGIES, "no: set by hand", "the repository is empty"),
    _setting("watchers", api.WATCHERS, "no"),
    _setting("forks", api.FORKS, "no"),
    _setting("pipelines configuration", api.PIPELINES_CONFIG, "yes", _OFF),
    _setting("variables", api.VARIABLES, _BUT_SECRETS, _OFF),
    _setting("schedules", api.SCHEDULES, "yes", _OFF),
    _setting("known hosts", api.KNOWN_HOSTS, "yes", _OFF),
    _setting("ssh key pair", api.KEY_PAIR, "no: the private key is never shown", _OFF),
    _setting("caches", api.CACHES, "no: they are made anew", _OFF),
    _setting("runners", api.RUNNERS, "no: a runner is registered anew", _OFF),
    Row(
        "environments", "settings", "repository", api.ENVIRONMENTS, "environments/<uuid>.json", "slowly",
        _OFF, "yes",
    ),
    Row(
        "environment variables", "settings", "repository", api.ENVIRONMENT_VARIABLES,
        "in the environment", "slowly", _OFF, _BUT_SECRETS,
    ),
    Row(
        "deployments", "settings", "repository", api.DEPLOYMENTS, "deployments/<uuid>.json", "slowly", _OFF,
        "no",
    ),
    Row(
        "downloads", "downloads", "repository", api.DOWNLOADS, "downloads.json", "slowly", _KEPT, "yes"
    ),
    Row(
        "downloaded files", "downloads", "repository", api.DOWNLOAD, "files/", "slowly",
        "removed upstream; the last good copy is kept", "yes",
    ),
    Row(
        "pull requests", "pull_requests", "repository", api.PULL_REQUESTS,
        "pull-requests/<n/100>/<n>.json", "cursor and sweep", "hidden from this credential",
        "open ones as new pull requests; the others as an archive",
    ),
    _inside(
        "pull request comments", "pull_requests", api.PULL_REQUEST_COMMENTS, "pull request",
        "cursor and sweep", "as new comments",
    ),
    _inside(
        "pull request tasks", "pull_requests", api.PULL_REQUEST_TASKS, "pull request", "cursor and sweep",
        "as new tasks",
    ),
    _inside(
        "pull request activity and approvals", "pull_requests", api.PULL_REQUESTS_ACTIVITY, "pull request",
        "cursor and sweep", "no",
    ),
    _inside(
        "pull request statuses", "pull_requests", api.PULL_REQUEST_STATUSES, "pull request", "when idle",
        "as statuses of the commit",
    ),
    _inside(
        "pull request commits", "pull_requests", api.PULL_REQUEST_COMMITS, "pull request",
        "where git lacks it", "no",
    ),
    Row(
        "pull request patch", "pull_requests", "repository", api.PATCH, "files/", "where git lacks it",
        "the fork is gone, and with it the commits", "by git am",
    ),
    Row(
        "issues", "issues", "repository", api.ISSUES, "issues/<n/100>/<n>.json", "cursor and sweep",
        _TRACKER, "no", ACCESS_TOKENS,
    ),
    _inside("issue comments", "issues", api.ISSUE_COMMENTS, "issue", "cursor and sweep", "no"),
    _inside("issue changes", "issues", api.ISSUE_CHANGES, "issue", "cursor and sweep", "no"),
    _inside("issue attachments", "issues", api.ISSUE_ATTACHMENTS, "issue", "cursor and sweep", "no"),
    _setting("milestones", api.MILESTONES, "no", _TRACKER, part="issues"),
    _setting("versions", api.VERSIONS, "no", _TRACKER, part="issues"),
    _setting("components", api.COMPONENTS, "no", _TRACKER, part="issues"),
    Row(
        "pipelines", "pipelines", "repository", api.PIPELINES, "pipelines/<n/100>/<n>.json",
        "until done", "pipelines were never switched on, or no longer are", "no",
    ),
    _inside("pipeline steps", "pipelines", api.PIPELINE_STEPS, "pipeline", "until done", "no"),
    Row(
        "test reports", "pipelines", "repository", api.TEST_REPORT, "in the pipeline", "until done",
        "the step has no report", "no",
    ),
    Row(
        "step logs", "pipeline_logs", "repository", api.STEP_LOG, "files/", "until done",
        "there was no log, or it has expired", "no",
    ),
    Row(
        "commit comments", "commit_comments", "repository", api.COMMIT_COMMENTS,
        "commit-comments/<ab>/<hash>.json", "when idle", "the commit is gone upstream; its copy is kept",
        "as new comments",
    ),
    Row(
        "code insights", "commit_comments", "repository", api.COMMIT_REPORTS,
        "commit-comments/<ab>/<hash>.json", "when idle", "the commit is gone upstream; its copy is kept",
        "as reports",
    ),
)  # fmt: skip


def rows(part: str | None = None, *, level: Level | None = None) -> tuple[Row, ...]:
    """The rows of a part, of a level, or of both."""
    return tuple(row for row in CATALOGUE if part in (None, row.part) and level in (None, row.level))


def never_readable(part: str, kind: str) -> bool:
    """Whether a kind of credential can never read what a part is listed by."""
    first = next(iter(rows(part)), None)
    return first is not None and kind in first.never_for
