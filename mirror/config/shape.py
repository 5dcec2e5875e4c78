"""The shape of the configuration file: every key, its type, and a sentence about it.

The JSON Schema for editors comes from here, and so does the check of what a person wrote.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mirror.config import values

Url = Annotated[str, AfterValidator(values.url)]
ApiUrl = Annotated[str, AfterValidator(values.api_url)]
Size = Annotated[int, BeforeValidator(values.byte_size, json_schema_input_type=str)]
TriggerText = Annotated[str, AfterValidator(values.trigger)]
Duration = Annotated[timedelta, BeforeValidator(values.duration, json_schema_input_type=str)]
# For how long something is kept: where other tools read `m` as months, it is refused.
KeepFor = Annotated[timedelta, BeforeValidator(values.keep_for, json_schema_input_type=str)]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(values.path)]
_EXPIRES = "The day on which the token expires, so that every run can warn from 30 days ahead."
ExpiryDate = Annotated[date | None, BeforeValidator(values.day)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class SecretShape(_Shape):
    """Where a secret is: exactly one of these. The secret itself never stands in this file."""

    file: PathText | None = Field(
        None, description="A file that holds the secret; not readable by everybody."
    )
    env: Text | None = Field(None, description="An environment variable that holds the secret.")
    credential: Text | None = Field(
        None, description="A systemd credential (LoadCredential=) that holds the secret."
    )
    command: Annotated[list[Text], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] | None = (
        Field(None, description="A program, with its arguments, that prints the secret.", min_length=1)
    )

    @model_validator(mode="after")
    def _one(self) -> SecretShape:
        if sum(value is not None for value in (self.file, self.env, self.credential, self.command)) != 1:
            raise ValueError("should name exactly one of file, env, credential and command")
        return self


class AccessTokenShape(_Shape):
    """An access token: REST as Bearer, git as x-token-auth."""

    kind: Literal["workspace_access_token", "project_access_token", "repository_access_token"] = Field(
        description="Which kind of credential this is."
    )
    token: SecretShape = Field(description="The token.")
    expires: ExpiryDate = Field(None, description=_EXPIRES)


class ApiTokenShape(_Shape):
    """A user's API token (begins with ATAT)."""

    kind: Literal["api_token"] = Field(description="Which kind of credential this is.")
    email: Text = Field(description="The e-mail address of the user's Atlassian account.")
    token: SecretShape = Field(description="The token.")
    expires: ExpiryDate = Field(None, description=_EXPIRES)


class OAuthConsumerShape(_Shape):
    """An OAuth consumer with the client-credentials grant."""

    kind: Literal["oauth_consumer"] = Field(description="Which kind of credential this is.")
    client_id: Text = Field(description="The consumer's key.")
    client_secret: SecretShape = Field(description="The consumer's secret.")


class AppPasswordShape(_Shape):
    """A user's app password. Bitbucket switched these off on 2026-07-28."""

    kind: Literal["app_password"] = Field(description="Which kind of credential this is.")
    username: Text = Field(description="The user's Bitbucket name.")
    password: SecretShape = Field(description="The app password.")


class ConnectJwtShape(_Shape):
    """The installation of a Connect app."""

    kind: Literal["connect_jwt"] = Field(description="Which kind of credential this is.")
    app_key: Text = Field(description="The app's key.")
    client_key: Text = Field(description="The installation's client key.")
    shared_secret: SecretShape = Field(description="The installation's shared secret.")


CredentialShape = Annotated[
    AccessTokenShape | ApiTokenShape | OAuthConsumerShape | AppPasswordShape | ConnectJwtShape,
    Field(discriminator="kind"),
]


class BitbucketShape(_Shape):
    """Where Bitbucket is; only tests and isolated clouds need this. Credentials go nowhere else."""

    api_url: ApiUrl = Field("https://api.bitbucket.org/2.0", description="The root of the REST API.")
    git_url: Url = Field(
        "https://bitbucket.org", description="Repositories are cloned from {git_url}/{workspace}/{slug}.git."
    )
    oauth_url: Url = Field(
        "https://bitbucket.org/site/oauth2/access_token", description="Where OAuth tokens are asked for."
    )


class PartsShape(_Shape):
    """Which parts to back up. Code and profiles always are."""

    pull_requests: bool = Field(True, description="Pull requests with comments, tasks and activity.")
    issues: bool = Field(True, description="Issues, where Bitbucket still has them.")
    pipelines: bool = Field(True, description="Pipelines with their steps.")
    pipeline_logs: bool = Field(True, description="The logs of pipeline steps; needs pipelines.")
    downloads: bool = Field(True, description="The files of the downloads section.")
    settings: bool = Field(True, description="Settings of the workspace, its projects and repositories.")
    snippets: bool = Field(
        True, description="Snippets, their git repositories too; access tokens can never read them."
    )
    wiki: bool = Field(True, description="Wikis, where Bitbucket still has them.")
    lfs: bool = Field(True, description="Git LFS objects, of every ref and every commit.")
    commit_comments: bool | Literal["all"] = Field(
        True,
        description="Comments and code insights of the heads of branches and pull requests; "
        "all: of every commit, which takes two requests for each.",
    )


def _share(value: object) -> float:
    """A share such as `10%`. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", value.strip()) if isinstance(value, str) else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError("should be a share such as 10%")
    return float(found[1]) / 100


Count = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=str)]


class RetentionShape(_Shape):
    """Which snapshots `mirror prune` keeps; a snapshot goes only where no rule keeps it.

    In each rule the newest (whole) snapshot of each of the last N hours, days and so on that have one
    is kept. The newest whole snapshot is always kept. Without this section nothing is ever let go.
    """

    keep_last: Count = Field(0, description="So many of the newest snapshots.")
    keep_hourly: Count = Field(0, description="One for each of so many hours.")
    keep_daily: Count = Field(0, description="One for each of so many days (UTC).")
    keep_weekly: Count = Field(0, description="One for each of so many weeks (from Monday).")
    keep_monthly: Count = Field(0, description="One for each of so many months.")
    keep_yearly: Count = Field(0, description="One for each of so many years.")
    keep_within: KeepFor | None = Field(
        None, description="All that are no older than this before the newest one.", examples=["7d"]
    )
    keep_gone: KeepFor | None = Field(
        None,
        description="How long all snapshots of a repository that went upstream are kept. Left out: for ever.",
        examples=["5y"],
    )
    pipeline_logs: KeepFor | None = Field(
        None,
        description="How long after a pipeline began its step logs are kept. Left out: for ever.",
        examples=["400d"],
    )

    @model_validator(mode="after")
    def _some(self) -> RetentionShape:
        counts = (
            self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly,
            self.keep_yearly,
        )  # fmt: skip
        if not any(counts) and self.keep_within is None:
            raise ValueError("should keep something: give at least one of the keep_ rules a number")
        return self


class BrakeShape(_Shape):
    """When so much vanished upstream at a time that it may be an accident: see `mirror accept-loss`."""

    share: Share = Field("10%", validate_default=True, description="More than this share is gone,")
    at_least: int = Field(5, ge=1, description="and no fewer than so many.")


PartName = Literal[
    "code", "profile", "pull_requests", "issues", "pipelines", "pipeline_logs", "downloads", "settings",
    "snippets", "commit_comments", "wiki", "lfs",
]  # fmt: skip
# Single kinds of settings, as the catalogue has them; a test holds them together.
KindName = Literal[
    "settings/members", "settings/roles", "settings/repository-permissions", "settings/workspace-webhooks",
    "settings/workspace-variables", "settings/workspace-runners", "settings/projects",
    "settings/system-gpg-key", "settings/schedule-executions",
    "settings/project-default-reviewers", "settings/project-branching-model",
    "settings/project-branching-model-settings", "settings/project-deploy-keys",
    "settings/project-users-permissions", "settings/project-groups-permissions",
    "settings/branch-restrictions", "settings/branching-model", "settings/branching-model-settings",
    "settings/default-reviewers", "settings/deploy-keys", "settings/webhooks", "settings/users-permissions",
    "settings/groups-permissions", "settings/override-settings", "settings/merge-strategies",
    "settings/watchers", "settings/forks", "settings/pipelines-configuration", "settings/variables",
    "settings/schedules", "settings/known-hosts", "settings/ssh-key-pair", "settings/caches",
    "settings/runners", "settings/environments", "settings/environment-variables", "settings/deployments",
]  # fmt: skip


class WorkspaceShape(_Shape):
    """One workspace to back up."""

    workspace: Annotated[str, AfterValidator(values.workspace)] | None = Field(
        None, description="Slug or {uuid}. Left out: every workspace that the credential can see."
    )
    credential: CredentialShape | None = Field(None, description="How to sign in.")
    credentials: list[CredentialShape] | None = Field(
        None, description="Several, to share the load and fill each other's gaps.", min_length=1
    )
    include: list[Text] = Field(["*"], description="Repository slugs, globs, or project:KEY.", min_length=1)
    exclude: list[Text] = Field([], description="The same, to leave out; it wins over include.")
    parts: PartsShape = Field(default_factory=PartsShape, description="Which parts to back up.")
    accept_missing: list[Literal[PartName, KindName]] = Field(
        [],
        description="Parts, or single kinds of settings, whose absence is known and agreed; they do not make "
        "a run incomplete.",
    )
    retention: RetentionShape | None = Field(
        None, description="Which snapshots are kept, instead of the top-level section."
    )
    brake: BrakeShape | None = Field(
        None, description="The mass-loss brake, instead of the top-level section."
    )

    @model_validator(mode="after")
    def _one_way(self) -> WorkspaceShape:
        if self.credential is not None and self.credentials is not None:
            raise ValueError("should have credential or credentials, not both")
        return self


class ScheduleShape(_Shape):
    """When the daemon runs what: five cron fields as crontab(5) has them, `@daily` and its like, or
    `every 4h`. Left out: never."""

    backup: TriggerText | None = Field(None, description="When to back up.", examples=["0 */4 * * *"])
    verify: TriggerText | None = Field(None, description="When to verify.", examples=["30 3 * * sun"])
    prune: TriggerText | None = Field(
        None, description="When to let go what retention does not keep.", examples=["0 5 * * *"]
    )
    timezone: Annotated[str, AfterValidator(values.zone)] = Field(
        "UTC", description="The time zone of cron fields."
    )


class LimitsShape(_Shape):
    """How much at a time."""

    api_concurrency: int = Field(8, ge=1, le=64, description="API requests at a time.")
    git_workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Git worker processes; left out: as many as cores, two at least, eight at most.",
    )
    api_limit: int = Field(
        1000,
        ge=60,
        le=1_000_000,
        description="Requests an hour that Bitbucket allows each credential, until its answers tell.",
    )
    api_reserve: int = Field(
        100, ge=0, le=1_000_000, description="Requests of each hour that are left unused, for a restore."
    )
    window: Duration = Field(
        "3h",
        validate_default=True,
        description="For how long one run waits for requests before it leaves the rest to the next.",
    )
    git_memory: int = Field(
        256,
        ge=32,
        le=65_536,
        description="MiB that git workers may use together to take packs in; the rest goes through files.",
    )
    silence_timeout: Duration = Field(
        timedelta(minutes=5), description="How long a git server may be silent.", examples=["5m"]
    )
    file_max: Size = Field(
        "20GiB",
        validate_default=True,
        description="How large one download, attachment or log may be; larger ones are reported as missing.",
        examples=["20GiB"],
    )


class NetworkShape(_Shape):
    """How servers are reached: the API, git and LFS alike."""

    proxy: Annotated[str, AfterValidator(values.proxy)] = Field(
        values.PROXY_FROM_ENVIRONMENT,
        description="The HTTP proxy: `from environment` (HTTPS_PROXY, NO_PROXY), `none`, or its address.",
        examples=["http://proxy.example.org:3128"],
    )
    proxy_user: Text | None = Field(None, description="The user name that the proxy wants.")
    proxy_password: SecretShape | None = Field(None, description="The password that the proxy wants.")
    no_proxy: list[Text] | None = Field(
        None,
        description="Hosts, domains and networks that no proxy is used for. Left out: as NO_PROXY says.",
        examples=[["localhost", ".example.org", "10.0.0.0/8"]],
    )
    ca_file: PathText | None = Field(
        None, description="Certificates (PEM) that are trusted besides those of the system."
    )
    ip: Literal["any", "ipv4", "ipv6"] = Field("any", description="The version of IP for all connections.")
    connect_timeout: Duration = Field(
        timedelta(seconds=30), description="How long a connection may take to be made.", examples=["30s"]
    )
    user_agent: Annotated[str, AfterValidator(values.user_agent)] = Field(
        "", description="What is added to the name that mirror gives itself.", examples=["(backup of acme)"]
    )

    @model_validator(mode="after")
    def _signed(self) -> NetworkShape:
        if self.proxy_password is not None and self.proxy_user is None:
            raise ValueError("should have proxy_user where it has proxy_password")
        return self


class RunsShape(_Shape):
    """How long run records are kept."""

    keep: KeepFor = Field(
        timedelta(days=400),
        description="How long `mirror prune` keeps run records; the latest ones always stay.",
        examples=["400d"],
    )


class ConfigShape(_Shape):
    """The configuration of mirror."""

    model_config = ConfigDict(title="mirror configuration")

    store: PathText = Field(description="The folder that backups are kept in.")
    bitbucket: BitbucketShape = Field(default_factory=BitbucketShape, description="Where Bitbucket is.")
    credential: CredentialShape | None = Field(
        None, description="How to sign in for workspaces that do not say."
    )
    credentials: list[CredentialShape] | None = Field(
        None, description="Several, for workspaces that do not say.", min_length=1
    )
    workspaces: list[WorkspaceShape] = Field(
        [], description="What to back up. None: every workspace that the credential can see."
    )
    schedule: ScheduleShape = Field(default_factory=ScheduleShape, description="When the daemon runs what.")
    runs: RunsShape = Field(default_factory=RunsShape, description="How long run records are kept.")
    retention: RetentionShape | None = Field(
        None, description="Which snapshots are kept. Left out: all, for ever."
    )
    brake: BrakeShape = Field(default_factory=BrakeShape, description="The mass-loss brake.")
    limits: LimitsShape = Field(default_factory=LimitsShape, description="How much at a time.")
    network: NetworkShape = Field(default_factory=NetworkShape, description="How servers are reached.")

    @model_validator(mode="after")
    def _one_way(self) -> ConfigShape:
        if self.credential is not None and self.credentials is not None:
            raise ValueError("should have credential or credentials, not both")
        default = self.credential is not None or self.credentials is not None
        lacking = [one for one in self.workspaces if one.credential is None and one.credentials is None]
        if not default and (lacking or not self.workspaces):
            raise ValueError("has no credential: give one at the top, or one in each workspace")
        return self


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, for editors."""
    schema = ConfigShape.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
