"""The configuration file where its notation differs from `settings`: its root, workspaces, credentials and
retention rules.

The JSON Schema for editors and the validation of a file come from these classes and those of `settings`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictInt,
    StrictStr,
    model_validator,
)

from mirror.auth.credentials import (
    ApiToken,
    AppPassword,
    ConnectJwt,
    Credential,
    OAuthConsumer,
    ProjectAccessToken,
    RepositoryAccessToken,
    WorkspaceAccessToken,
)
from mirror.config import values
from mirror.config.cluster import ClusterConfig
from mirror.config.copies import CopyConfig
from mirror.config.settings import (
    INCLUDE_ALL,
    BitbucketUrls,
    Brake,
    Config,
    HooksConfig,
    Limits,
    NetworkConfig,
    NotifyConfig,
    Parts,
    PingConfig,
    Retention,
    Runs,
    Schedule,
    WebConfig,
    WorkspaceConfig,
    WorkspaceSchedule,
)
from mirror.config.types import RULES, KeepFor, LocalPath, Secret, Text
from mirror.retention import Policy

_EXPIRES = "The day on which the token expires, so that every run can warn from 30 days ahead."
ExpiryDate = Annotated[Annotated[date, Strict()] | None, BeforeValidator(values.day)]
Count = Annotated[StrictInt, Field(ge=0, le=1_000_000)]
_ACCESS_TOKENS = {one.kind: one for one in (WorkspaceAccessToken, ProjectAccessToken, RepositoryAccessToken)}


class _Shape(BaseModel):
    model_config = RULES


class AccessTokenShape(_Shape):
    """An access token: REST as Bearer, git as x-token-auth."""

    kind: Literal["workspace_access_token", "project_access_token", "repository_access_token"] = Field(
        description="Which kind of credential this is."
    )
    token: Secret = Field(description="The token.")
    expires: ExpiryDate = Field(None, description=_EXPIRES)

    def settings(self) -> Credential:
        """The credential that this means."""
        return _ACCESS_TOKENS[self.kind](self.token, self.expires)


class ApiTokenShape(_Shape):
    """A user's API token (begins with ATAT)."""

    kind: Literal["api_token"] = Field(description="Which kind of credential this is.")
    email: Text = Field(description="The e-mail address of the user's Atlassian account.")
    token: Secret = Field(description="The token.")
    expires: ExpiryDate = Field(None, description=_EXPIRES)

    def settings(self) -> Credential:
        """The credential that this means."""
        return ApiToken(self.email, self.token, self.expires)


class OAuthConsumerShape(_Shape):
    """An OAuth consumer with the client-credentials grant."""

    kind: Literal["oauth_consumer"] = Field(description="Which kind of credential this is.")
    client_id: Text = Field(description="The consumer's key.")
    client_secret: Secret = Field(description="The consumer's secret.")

    def settings(self) -> Credential:
        """The credential that this means."""
        return OAuthConsumer(self.client_id, self.client_secret)


class AppPasswordShape(_Shape):
    """A user's app password. Bitbucket switched these off on 2026-07-28."""

    kind: Literal["app_password"] = Field(description="Which kind of credential this is.")
    username: Text = Field(description="The user's Bitbucket name.")
    password: Secret = Field(description="The app password.")

    def settings(self) -> Credential:
        """The credential that this means."""
        return AppPassword(self.username, self.password)


class ConnectJwtShape(_Shape):
    """The installation of a Connect app."""

    kind: Literal["connect_jwt"] = Field(description="Which kind of credential this is.")
    app_key: Text = Field(description="The app's key.")
    client_key: Text = Field(description="The installation's client key.")
    shared_secret: Secret = Field(description="The installation's shared secret.")

    def settings(self) -> Credential:
        """The credential that this means."""
        return ConnectJwt(self.app_key, self.client_key, self.shared_secret)


CredentialShape = Annotated[
    AccessTokenShape | ApiTokenShape | OAuthConsumerShape | AppPasswordShape | ConnectJwtShape,
    Field(discriminator="kind"),
]


class RetentionShape(_Shape):
    """Which snapshots `mirror prune` keeps; it removes a snapshot only where no rule keeps it.

    Each rule keeps the newest (complete) snapshot of each of the last N hours, days and so on that have
    one. The newest complete snapshot is always kept. Without this section nothing is ever removed.
    """

    keep_last: Count = Field(0, description="The newest N snapshots.")
    keep_hourly: Count = Field(0, description="One for each of N hours.")
    keep_daily: Count = Field(0, description="One for each of N days (UTC).")
    keep_weekly: Count = Field(0, description="One for each of N weeks (from Monday).")
    keep_monthly: Count = Field(0, description="One for each of N months.")
    keep_yearly: Count = Field(0, description="One for each of N years.")
    keep_within: KeepFor | None = Field(
        None, description="All up to this much older than the newest one.", examples=["7d"]
    )
    keep_gone: KeepFor | None = Field(
        None,
        description="How long to keep snapshots of a repository that is gone upstream. Left out: for ever.",
        examples=["5y"],
    )
    pipeline_logs: KeepFor | None = Field(
        None,
        description="How long to keep the step logs after a pipeline ended. Left out: for ever.",
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

    def settings(self) -> Retention:
        """The settings that these rules mean."""
        policy = Policy(**self.model_dump(exclude={"keep_gone", "pipeline_logs"}))
        return Retention(policy, self.pipeline_logs, self.keep_gone)


PartName = Literal[
    "code", "profile", "pull_requests", "issues", "pipelines", "pipeline_logs", "downloads", "settings",
    "snippets", "commit_comments", "wiki", "lfs",
]  # fmt: skip
# Single kinds of settings. A test compares them with the catalogue.
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

    workspace: Annotated[StrictStr, AfterValidator(values.workspace)] | None = Field(
        None, description="Slug or {uuid}. Left out: every workspace that the credential can see."
    )
    credential: CredentialShape | None = Field(None, description="How to sign in.")
    credentials: list[CredentialShape] | None = Field(
        None, description="Several, to share the load and fill each other's gaps.", min_length=1
    )
    include: list[Text] = Field(
        list(INCLUDE_ALL), description="Repository slugs, globs, or project:KEY.", min_length=1
    )
    exclude: list[Text] = Field([], description="The same, to leave out; it wins over include.")
    parts: Parts = Field(default_factory=Parts, description="Which parts to back up.")
    accept_missing: list[Literal[PartName, KindName]] = Field(
        [],
        description="Parts, or single kinds of settings, that are accepted as missing: they do not make a "
        "run incomplete.",
    )
    retention: RetentionShape | None = Field(
        None, description="Which snapshots are kept, instead of the top-level section."
    )
    brake: Brake | None = Field(None, description="The mass-loss brake, instead of the top-level section.")
    schedule: WorkspaceSchedule | None = Field(
        None, description="When the daemon runs jobs of this workspace alone, instead of those for all."
    )

    @model_validator(mode="after")
    def _one_way(self) -> WorkspaceShape:
        if self.credential is not None and self.credentials is not None:
            raise ValueError("should have credential or credentials, not both")
        return self


class ConfigShape(_Shape):
    """The configuration of mirror."""

    model_config = ConfigDict(**RULES, title="mirror configuration")

    store: LocalPath = Field(description="The folder that keeps the backups.")
    bitbucket: BitbucketUrls = Field(default_factory=BitbucketUrls, description="Where Bitbucket is.")
    credential: CredentialShape | None = Field(
        None, description="The credential of workspaces without their own."
    )
    credentials: list[CredentialShape] | None = Field(
        None, description="Several, for workspaces without their own.", min_length=1
    )
    workspaces: list[WorkspaceShape] = Field(
        [], description="What to back up. None: every workspace that the credential can see."
    )
    schedule: Schedule = Field(default_factory=Schedule, description="When the daemon runs what.")
    runs: Runs = Field(default_factory=Runs, description="How long run records are kept.")
    retention: RetentionShape | None = Field(
        None, description="Which snapshots are kept. Left out: all, for ever."
    )
    brake: Brake = Field(default_factory=Brake, description="The mass-loss brake.")
    limits: Limits = Field(default_factory=Limits, description="How much at a time.")
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="How servers are reached.")
    notify: NotifyConfig | None = Field(None, description="Where notices go. Left out: nowhere.")
    ping: PingConfig | None = Field(None, description="Which monitoring service is pinged.")
    web: WebConfig | None = Field(None, description="The page, and metrics for Prometheus.")
    hooks: HooksConfig | None = Field(None, description="Where Bitbucket's webhooks arrive.")
    copies: list[CopyConfig] = Field([], description="Where copies of the store in object storage are.")
    cluster: ClusterConfig | None = Field(None, description="The cluster of hosts, if there are several.")

    @model_validator(mode="after")
    def _one_way(self) -> ConfigShape:
        if self.credential is not None and self.credentials is not None:
            raise ValueError("should have credential or credentials, not both")
        default = self.credential is not None or self.credentials is not None
        lacking = [one for one in self.workspaces if one.credential is None and one.credentials is None]
        if not default and (lacking or not self.workspaces):
            raise ValueError("has no credential: give one at the top, or one in each workspace")
        return self

    def settings(self, source: Path | None) -> Config:
        """The settings that this file means; those at the top apply to workspaces without their own."""
        default = _credentials(self)
        retention = self.retention.settings() if self.retention is not None else None
        entries = tuple(
            WorkspaceConfig(
                workspace=one.workspace,
                credentials=_credentials(one) or default,
                include=tuple(one.include),
                exclude=tuple(one.exclude),
                parts=one.parts,
                accept_missing=tuple(one.accept_missing),
                retention=one.retention.settings() if one.retention is not None else retention,
                brake=one.brake or self.brake,
                schedule=one.schedule.within(self.schedule) if one.schedule is not None else None,
            )
            for one in self.workspaces
        )
        return Config(
            store=self.store,
            bitbucket=self.bitbucket,
            workspaces=entries or (WorkspaceConfig(None, default, retention=retention, brake=self.brake),),
            schedule=self.schedule,
            limits=self.limits,
            network=self.network,
            runs=self.runs,
            notify=self.notify,
            ping=self.ping,
            web=self.web,
            hooks=self.hooks,
            copies=tuple(self.copies),
            cluster=self.cluster,
            source=source,
            credentials=default,
        )


def _credentials(one: ConfigShape | WorkspaceShape) -> tuple[Credential, ...]:
    several = [one.credential] if one.credential is not None else one.credentials or []
    return tuple(item.settings() for item in several)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, for editors."""
    schema = ConfigShape.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
