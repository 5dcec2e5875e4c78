"""The catalogue: one row for each kind of metadata that is backed up.

Collecting, restoring, the scope check of `doctor` and the documentation read it. A new kind is a new row;
one that is more than one document with one answer needs a function as well (`kinds/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, TypedDict

from mirror.bitbucket import endpoints as api
from mirror.bitbucket import writes
from mirror.bitbucket.endpoints import Endpoint
from mirror.collect.put_back import InOtherForm, PutBack, Sent, Stage, Stays

Upkeep = Literal["every run", "cursor and sweep", "until done", "slowly", "when idle", "where git lacks it"]
Level = Literal["workspace", "project", "repository"]

ACCESS_TOKENS = frozenset(
    {"access_token", "workspace_access_token", "project_access_token", "repository_access_token"}
)
# Credentials that see nothing of the workspace that their repositories are in.
NARROW = frozenset({"project_access_token", "repository_access_token"})
_NOBODY: frozenset[str] = frozenset()


class Meaning(StrEnum):
    """What a refusal means for a kind. NONE, OFF and ENDED may mean that there is none; the others leave
    it missing."""

    DENIED = "denied"  # a scope or a permission is missing
    MISSING = "missing"  # it always exists: it is hidden, or the server is at fault, until it answers
    NONE = "none"  # there is none, if the repository itself answers
    OFF = "none where pipelines are off"  # otherwise MISSING, or DENIED
    RETIRED = "missing, and retired after three days"  # a brown-out ends sooner
    ENDED = "none any more"  # Bitbucket has ended it; a held copy is MISSING for three days first


@dataclass(frozen=True)
class Row:
    """One kind. `part` is its part in snapshots and in the configuration.

    `forbidden`, `not_found` and `gone` are what a 403, a 404 and a 410 for it mean; `absence` is why there
    may be none. `put_back` is how it comes back into Bitbucket. `never_for` are the kinds of credential that
    can never read it: no other scope would help them.
    """

    kind: str
    part: str
    level: Level
    endpoint: Endpoint
    document: str
    upkeep: Upkeep
    put_back: PutBack
    never_for: frozenset[str] = _NOBODY
    forbidden: Meaning = Meaning.DENIED
    not_found: Meaning = Meaning.MISSING
    gone: Meaning = Meaning.RETIRED
    absence: str = ""

    @property
    def name(self) -> str:
        """The kind as a key: in marks, in the state, and as the file name of a setting."""
        return self.kind.replace("'", "").replace(" ", "_").lower()

    @property
    def accepted_as(self) -> str:
        """The kind as `accept_missing` names it: `settings/deploy-keys`."""
        return f"{self.part}/{self.name.replace('_', '-')}"

    @property
    def has_no_scope(self) -> bool:
        """Whether `never_for` cannot have the scope that others need: their refusal names that scope."""
        return self.part in ("issues", "snippets")


class _Absent(TypedDict, total=False):
    forbidden: Meaning
    not_found: Meaning
    gone: Meaning
    absence: str


# Bitbucket's API documentation says that a 404 for these means that the thing itself does not exist.
def _none(absence: str) -> _Absent:
    return {"not_found": Meaning.NONE, "absence": absence}


_TRACKER: _Absent = {
    "not_found": Meaning.NONE, "gone": Meaning.ENDED,
    "absence": "the tracker is off; Bitbucket removed all trackers in August 2026",
}  # fmt: skip
# The documentation does not say what these answer where pipelines were never on; the configuration does.
_OFF: _Absent = {"forbidden": Meaning.OFF, "not_found": Meaning.OFF, "absence": "pipelines are switched off"}
_COMMIT = _none("the commit is gone upstream")


def _setting(
    kind: str, endpoint: Endpoint, put_back: PutBack, absent: _Absent | None = None, *, tokens: bool = True,
    part: str = "settings",
) -> Row:  # fmt: skip
    document = f"settings/{kind.replace(chr(39), '').replace(' ', '-')}.json"
    never = _NOBODY if tokens else ACCESS_TOKENS
    return Row(kind, part, "repository", endpoint, document, "slowly", put_back, never, **(absent or {}))


def _of_workspace(kind: str, endpoint: Endpoint, put_back: PutBack, *, tokens: bool = True) -> Row:
    document = f"settings/{kind.removeprefix('workspace ').replace(' ', '-').lower()}.json"
    never = NARROW if tokens else ACCESS_TOKENS
    return Row(kind, "settings", "workspace", endpoint, document, "slowly", put_back, never)


def _of_project(kind: str, endpoint: Endpoint, put_back: PutBack, *, tokens: bool = True) -> Row:
    never = frozenset({"repository_access_token"}) if tokens else ACCESS_TOKENS
    return Row(kind, "settings", "project", endpoint, "projects/<key>.json", "slowly", put_back, never)


def _inside(
    kind: str, part: str, endpoint: Endpoint, where: str, upkeep: Upkeep, put_back: PutBack,
    absent: _Absent | None = None,
) -> Row:  # fmt: skip
    document = where if "/" in where else f"in the {where}"
    return Row(kind, part, "repository", endpoint, document, upkeep, put_back, **(absent or {}))


_granted = partial(Sent, Stage.PERMISSIONS)
_set = partial(Sent, Stage.SETTINGS)
_for_builds = partial(Sent, Stage.PIPELINES)
_called = partial(Sent, Stage.HOOKS, more="inactive unless --activate-hooks")
_RESTRICTED = Sent(Stage.RESTRICTIONS, writes.BRANCH_RESTRICTIONS)
_AS_IT_WAS = Sent(Stage.PIPELINES_AS_THEY_WERE, writes.PIPELINES_CONFIG)
_INVITED = Stays("people are invited")
_REGISTERED = Stays("a runner is registered anew", is_lacking=True)
_BY_SETTINGS = InOtherForm("by its settings")

CATALOGUE: tuple[Row, ...] = (
    Row(
        "workspace profile", "profile", "workspace", api.WORKSPACE, "workspace.json", "every run",
        Stays("a workspace is made by its owner"), NARROW,
    ),
    Row(
        "repository list", "repositories", "workspace", api.REPOSITORIES, "repositories.json",
        "every run", InOtherForm("as repositories"),
    ),
    _of_workspace("members", api.MEMBERS, _INVITED),
    _of_workspace("roles", api.ROLES, _INVITED, tokens=False),
    _of_workspace(
        "repository permissions", api.REPOSITORY_PERMISSIONS,
        InOtherForm("by the permissions of each repository"), tokens=False,
    ),
    _of_workspace("workspace webhooks", api.WORKSPACE_HOOKS, _called(writes.WORKSPACE_HOOKS)),
    _of_workspace("workspace variables", api.WORKSPACE_VARIABLES, _for_builds(writes.WORKSPACE_VARIABLES)),
    _of_workspace("workspace runners", api.WORKSPACE_RUNNERS, _REGISTERED),
    _of_workspace("system GPG key", api.SYSTEM_KEY, Stays("it is Bitbucket's own")),
    Row(
        "projects", "settings", "workspace", api.PROJECTS, "projects/<key>.json", "slowly",
        InOtherForm("yes"), NARROW,
    ),
    _of_project("project default reviewers", api.PROJECT_REVIEWERS, _set(writes.PROJECT_REVIEWERS)),
    _of_project("project branching model", api.PROJECT_MODEL, _BY_SETTINGS),
    _of_project(
        "project branching model settings", api.PROJECT_MODEL_SETTINGS,
        _set(writes.PROJECT_MODEL_SETTINGS),
    ),
    _of_project("project deploy keys", api.PROJECT_KEYS, _set(writes.PROJECT_KEYS)),
    _of_project(
        "project users' permissions", api.PROJECT_USERS,
        _granted(writes.PROJECT_USERS), tokens=False,
    ),
    _of_project(
        "project groups' permissions", api.PROJECT_GROUPS,
        _granted(writes.PROJECT_GROUPS), tokens=False,
    ),
    Row(
        "snippets", "snippets", "workspace", api.SNIPPETS, "snippets/<id>.json", "slowly",
        _set(writes.SNIPPETS),
        ACCESS_TOKENS,
    ),
    Row(
        "snippet files", "snippets", "workspace", api.SNIPPET_FILE, "files/", "slowly",
        InOtherForm("as they are now"),
        ACCESS_TOKENS,
    ),
    Row(
        "snippet comments", "snippets", "workspace", api.SNIPPET_COMMENTS, "in the snippet", "slowly",
        InOtherForm("as new comments"), ACCESS_TOKENS,
    ),
    Row(
        "snippet commits", "snippets", "workspace", api.SNIPPET_COMMITS, "in the snippet", "slowly", Stays(),
        ACCESS_TOKENS,
    ),
    Row(
        "repository profile", "profile", "repository", api.REPOSITORY, "repository.json", "every run",
        InOtherForm("most fields"),
    ),
    _setting("branch restrictions", api.BRANCH_RESTRICTIONS, _RESTRICTED),
    _setting("branching model", api.BRANCHING_MODEL, _BY_SETTINGS),
    _setting("branching model settings", api.BRANCHING_MODEL_SETTINGS, _set(writes.BRANCHING_MODEL_SETTINGS)),
    _setting("default reviewers", api.DEFAULT_REVIEWERS, _set(writes.DEFAULT_REVIEWERS)),
    _setting("deploy keys", api.DEPLOY_KEYS, _set(writes.DEPLOY_KEYS)),
    _setting("webhooks", api.HOOKS, _called(writes.HOOKS)),
    _setting("users' permissions", api.USER_PERMISSIONS, _granted(writes.USER_PERMISSIONS), tokens=False),
    _setting("groups' permissions", api.GROUP_PERMISSIONS, _granted(writes.GROUP_PERMISSIONS), tokens=False),
    _setting("override settings", api.OVERRIDE_SETTINGS, _set(writes.OVERRIDE_SETTINGS)),
    _setting(
        "merge strategies", api.MERGE_STRATEGIES,
        Stays("set by hand"), _none("the branch is not there"),
    ),
    _setting("watchers", api.WATCHERS, Stays("everybody watches for themselves")),
    _setting("forks", api.FORKS, Stays("a fork is a repository of its own")),
    _setting(
        "pipelines configuration", api.PIPELINES_CONFIG, _AS_IT_WAS, _none("pipelines were never switched on")
    ),
    _setting("variables", api.VARIABLES, _for_builds(writes.VARIABLES), _OFF),
    _setting("schedules", api.SCHEDULES, _for_builds(writes.SCHEDULES, "enabled at the end"), _OFF),
    _setting("schedule executions", api.SCHEDULE_EXECUTIONS, Stays(), _OFF),
    _setting("known hosts", api.KNOWN_HOSTS, _for_builds(writes.KNOWN_HOSTS), _OFF),
    _setting(
        "ssh key pair", api.KEY_PAIR,
        Stays("the private key is never shown", is_lacking=True), _none("none was made"),
    ),
    _setting("caches", api.CACHES, Stays("they are made anew"), _OFF),
    _setting("runners", api.RUNNERS, _REGISTERED, _OFF),
    Row(
        "environments", "settings", "repository", api.ENVIRONMENTS, "environments/<uuid>.json", "slowly",
        _for_builds(writes.ENVIRONMENTS), **_OFF,
    ),
    Row(
        "environment variables", "settings", "repository", api.ENVIRONMENT_VARIABLES,
        "in the environment", "slowly", _for_builds(writes.ENVIRONMENT_VARIABLES),
    ),
    Row(
        "deployments", "settings", "repository", api.DEPLOYMENTS, "deployments/<uuid>.json", "slowly",
        Stays(), **_OFF,
    ),
    Row(
        "downloads", "downloads", "repository", api.DOWNLOADS, "downloads.json", "slowly",
        _set(writes.DOWNLOADS)
    ),
    Row(
        "downloaded files", "downloads", "repository", api.DOWNLOAD, "files/", "slowly",
        InOtherForm("yes"),
    ),
    Row(
        "pull requests", "pull_requests", "repository", api.PULL_REQUESTS,
        "pull-requests/<n/100>/<n>.json", "cursor and sweep",
        InOtherForm("open ones as new pull requests; the others as an archive"),
    ),
    _inside(
        "pull request comments", "pull_requests", api.PULL_REQUEST_COMMENTS, "pull request",
        "cursor and sweep", InOtherForm("as new comments"),
    ),
    _inside(
        "pull request tasks", "pull_requests", api.PULL_REQUEST_TASKS, "pull request", "cursor and sweep",
        InOtherForm("as new tasks"),
    ),
    _inside(
        "pull request activity and approvals", "pull_requests", api.PULL_REQUESTS_ACTIVITY, "pull request",
        "cursor and sweep", Stays(),
    ),
    _inside(
        "pull request statuses", "pull_requests", api.PULL_REQUEST_STATUSES, "pull request", "when idle",
        InOtherForm("as statuses of the commit"),
    ),
    _inside(
        "pull request commits", "pull_requests", api.PULL_REQUEST_COMMITS, "pull request",
        "where git lacks it", Stays(), _none("its fork is gone"),
    ),
    Row(
        "pull request patch", "pull_requests", "repository", api.PATCH, "files/", "where git lacks it",
        InOtherForm("by git am"), **_none("its fork is gone"),
    ),
    Row(
        "issues", "issues", "repository", api.ISSUES, "issues/<n/100>/<n>.json", "cursor and sweep",
        Stays(), ACCESS_TOKENS, **_TRACKER,
    ),
    _inside("issue comments", "issues", api.ISSUE_COMMENTS, "issue", "cursor and sweep", Stays()),
    _inside("issue changes", "issues", api.ISSUE_CHANGES, "issue", "cursor and sweep", Stays()),
    _inside("issue attachments", "issues", api.ISSUE_ATTACHMENTS, "issue", "cursor and sweep", Stays()),
    _setting("milestones", api.MILESTONES, Stays(), _TRACKER, part="issues"),
    _setting("versions", api.VERSIONS, Stays(), _TRACKER, part="issues"),
    _setting("components", api.COMPONENTS, Stays(), _TRACKER, part="issues"),
    Row(
        "pipelines", "pipelines", "repository", api.PIPELINES, "pipelines/<n/100>/<n>.json",
        "until done", Stays("only the next build number is set"), **_OFF,
    ),
    _inside("pipeline steps", "pipelines", api.PIPELINE_STEPS, "pipeline", "until done", Stays()),
    Row(
        "test reports", "pipelines", "repository", api.TEST_REPORT, "in the pipeline", "until done",
        Stays(), **_none("the step has none"),
    ),
    Row(
        "step logs", "pipeline_logs", "repository", api.STEP_LOG, "files/", "until done",
        Stays(), **_none("there was none, or it has expired"),
    ),
    Row(
        "service logs", "pipeline_logs", "repository", api.SERVICE_LOG, "files/", "until done",
        Stays(), **_none("there was none, or it has expired"),
    ),
    Row(
        "commit comments", "commit_comments", "repository", api.COMMIT_COMMENTS,
        "commit-comments/<ab>/<hash>.json", "when idle", InOtherForm("as new comments"), **_COMMIT,
    ),
    Row(
        "code insights", "commit_comments", "repository", api.COMMIT_REPORTS,
        "commit-comments/<ab>/<hash>.json", "when idle", InOtherForm("as reports"), **_COMMIT,
    ),
    Row(
        "commit approvals", "commit_comments", "repository", api.COMMIT,
        "commit-comments/<ab>/<hash>.json", "when idle", Stays(), **_COMMIT,
    ),
    Row(
        "commit statuses", "commit_comments", "repository", api.COMMIT_STATUSES,
        "commit-comments/<ab>/<hash>.json", "when idle", InOtherForm("as statuses"), **_COMMIT,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Never:
    """Something that a workspace has and that no backup can hold. `why` ends the sentence of `what`."""

    what: str
    why: str


_NO_API = "no public API has this"
NEVER: tuple[Never, ...] = (
    Never("values of secured variables, webhooks' secrets, private keys", "Bitbucket never shows them again"),
    Never("how runners sign in", "Bitbucket never shows it again"),
    Never("pipeline artifacts", _NO_API + "; they expire after 14 days"),
    Never("the content of pipeline caches", "builds make them anew"),
    Never(
        "packages (container images, npm, Maven)",
        "no API lists them; registry clients can pull each by its name",
    ),
    Never("custom merge checks", _NO_API),
    Never("the default description of pull requests", _NO_API),
    Never("merge strategies of projects, branch restrictions of projects", _NO_API),
    Never("lists of access tokens and of OAuth consumers", _NO_API),
    Never("IP allow-lists, required two-step verification", _NO_API),
    Never("the audit log", _NO_API),
    Never("links to Jira", _NO_API),
    Never("settings of Git LFS, and of the size of a repository", _NO_API),
    Never("deployment permissions", _NO_API),
    Never("application properties", "each is for the app alone whose key it has"),
    Never("groups, and who is in which", _NO_API + "; permissions name groups, and these are kept"),
    Never("people's pictures (avatars)", "their addresses are kept, and lead elsewhere"),
    Never("pictures pasted into comments", "they are links to a place that no API lists"),
    Never(
        "what effective settings come to (`effective-branching-model`, `effective-default-reviewers`)",
        "it follows from the repository's and the project's own, which are kept",
    ),
    Never(
        "issues since 2026-08-20, and wikis where they are gone",
        "Bitbucket removed them; what was saved before stays",
    ),
)


def rows(part: str | None = None, *, level: Level | None = None) -> tuple[Row, ...]:
    """The rows of a part, of a level, of both, or all."""
    return tuple(row for row in CATALOGUE if part in (None, row.part) and level in (None, row.level))


def row_of(part: str, level: Level = "repository") -> Row:
    """The row of the list that a part is read from."""
    return next(iter(rows(part, level=level)))


def row_of_kind(kind: str) -> Row:
    """The row of a kind. Raises StopIteration where there is none."""
    return next(row for row in CATALOGUE if row.kind == kind)
