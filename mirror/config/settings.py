"""The configuration as the program uses it: frozen, validated, and without secrets.

The sections of the file are these classes: each key with its type, its default and the description that the
JSON Schema shows. `shape` describes what the file writes differently: its root, workspaces and credentials.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic.dataclasses import dataclass as section

from mirror.auth.credentials import Credential
from mirror.config import crontab, values
from mirror.config.cluster import ClusterConfig
from mirror.config.copies import CopyConfig
from mirror.config.types import (
    RULES,
    ApiUrl,
    Duration,
    HooksUrl,
    Jitter,
    KeepFor,
    Listen,
    LocalPath,
    Networks,
    Secret,
    Share,
    Size,
    Text,
    Url,
    When,
    WhenToCopy,
    Workers,
    cores,
    some,
)
from mirror.config.values import After, ByteSize, Cron, Every, Trigger, duration_text
from mirror.errors import UsageError
from mirror.http.network import CONNECT_TIMEOUT, IpVersion
from mirror.model import Scope
from mirror.notify.conditions import Event
from mirror.retention import Policy

__all__ = [
    "After", "BitbucketUrls", "Brake", "ByteSize", "Config", "Cron", "Every", "Expiry", "HooksConfig",
    "Limits", "NetworkConfig", "NotifyConfig", "Parts", "PingConfig", "Retention", "Runs", "Schedule",
    "Trigger", "WebConfig", "WorkspaceConfig", "WorkspaceSchedule", "duration_text",
]  # fmt: skip


@section(frozen=True, config=RULES)
class BitbucketUrls:
    """Where Bitbucket is; only tests and isolated clouds need this. Credentials are sent nowhere else."""

    api_url: ApiUrl = Field(default="https://api.bitbucket.org/2.0", description="The root of the REST API.")
    git_url: Url = Field(
        default="https://bitbucket.org",
        description="Repositories are cloned from {git_url}/{workspace}/{slug}.git.",
    )
    oauth_url: Url = Field(
        default="https://bitbucket.org/site/oauth2/access_token",
        description="The endpoint that issues OAuth tokens.",
    )


@section(frozen=True, config=RULES)
class Parts:
    """Which parts to back up. Code and profiles always are."""

    pull_requests: StrictBool = Field(
        default=True,
        description="Pull requests with comments, tasks and activity.",
    )
    issues: StrictBool = Field(default=True, description="Issues, where Bitbucket still has them.")
    pipelines: StrictBool = Field(default=True, description="Pipelines with their steps.")
    pipeline_logs: StrictBool = Field(
        default=True,
        description="The logs of pipeline steps; needs pipelines.",
    )
    downloads: StrictBool = Field(default=True, description="The files of the downloads section.")
    settings: StrictBool = Field(
        default=True, description="Settings of the workspace, its projects and repositories."
    )
    snippets: StrictBool = Field(
        default=True, description="Snippets and their git repositories; access tokens can never read them."
    )
    wiki: StrictBool = Field(default=True, description="Wikis, where Bitbucket still has them.")
    lfs: StrictBool = Field(default=True, description="Git LFS objects, of every ref and every commit.")
    commit_comments: StrictBool | Literal["all"] = Field(
        default=True,
        description="Comments and code insights of the heads of branches and pull requests; "
        "all: of every commit, which takes two requests for each.",
    )


@dataclass(frozen=True)
class Retention:
    """What prune may remove: snapshots by `policy`, and step logs of pipelines older than `pipeline_logs`
    (None: no logs).

    After a repository is gone upstream, all its snapshots are kept for `keep_gone` (None: for ever); then
    `policy` applies to it too.
    """

    policy: Policy
    pipeline_logs: timedelta | None = None
    keep_gone: timedelta | None = None


@section(frozen=True, config=RULES)
class Brake:
    """When a loss upstream may be an accident: see `mirror accept-loss`. It must exceed both limits."""

    share: Share = Field(default="10%", validate_default=True, description="More than this share is gone,")
    at_least: StrictInt = Field(default=5, ge=1, description="and at least this many.")


# Every repository.
INCLUDE_ALL = ("*",)


@dataclass(frozen=True)
class WorkspaceConfig:
    """One workspace to back up; `workspace` None means each one that the credential can see."""

    workspace: str | None
    credentials: tuple[Credential, ...]
    include: tuple[str, ...] = INCLUDE_ALL
    exclude: tuple[str, ...] = ()
    parts: Parts = field(default_factory=Parts)
    accept_missing: tuple[str, ...] = ()
    retention: Retention | None = None
    brake: Brake = field(default_factory=Brake)
    schedule: Schedule | None = None


@section(frozen=True, config=RULES)
class Times:
    """When each kind of job runs: five cron fields as in crontab(5), `@daily` and the like, or `every 4h`."""

    backup: When | None = Field(default=None, description="When to back up.", examples=["0 */4 * * *"])
    verify: When | None = Field(default=None, description="When to verify.", examples=["30 3 * * sun"])
    prune: When | None = Field(
        default=None, description="When to remove what retention does not keep.", examples=["0 5 * * *"]
    )
    drill: When | None = Field(
        default=None,
        description="When to rehearse a restore on a simulated Bitbucket.",
        examples=["0 6 1 * *"],
    )

    def of(self, kind: str) -> Trigger | None:
        """When jobs of this kind run; None: never, or as the schedule at the top says."""
        trigger: Trigger | None = getattr(self, kind, None)
        return trigger


@section(frozen=True, config=RULES)
class Schedule(Times):
    """When the daemon runs each job. Left out: never."""

    copy: WhenToCopy | None = Field(
        default=None,
        description="When to bring the copies in object storage up to date: `after backup`, whenever a "
        "backup of the schedule has ended, or a time of its own.",
        examples=["after backup"],
    )
    timezone: Annotated[StrictStr, AfterValidator(values.zone)] = Field(
        default="UTC", description="The time zone of cron fields."
    )
    jitter: Jitter | None = Field(
        default=None,
        description="How much later than its cron fields say a job may begin; how much it is, is fixed for "
        "each store and job. Left out: 5 % of the interval, at most 5 minutes; `none`: not later.",
        examples=["10m"],
    )


@section(frozen=True, config=RULES)
class WorkspaceSchedule(Times):
    """When the daemon runs jobs of one workspace. Of a kind that is left out, the schedule at the top has
    it."""

    timezone: Annotated[StrictStr, AfterValidator(values.zone)] | None = Field(
        default=None, description="The time zone of cron fields, instead of that at the top."
    )
    jitter: Jitter | None = Field(
        default=None, description="As at the top, and instead of it.", examples=["10m"]
    )

    def within(self, top: Schedule) -> Schedule:
        """The whole schedule of the workspace, below that at the top."""
        return Schedule(
            **{one.name: self.of(one.name) for one in fields(Times)},
            timezone=self.timezone or top.timezone,
            jitter=top.jitter if self.jitter is None else self.jitter,
        )


def shortest_interval(schedule: Schedule, kind: str) -> timedelta | None:
    """The shortest time between two jobs of this kind by the clock; None where there is none."""
    trigger = schedule.of(kind)
    if isinstance(trigger, Every):
        return trigger.interval
    if not isinstance(trigger, Cron):
        return None
    return crontab.parse(trigger.text).shortest_gap(ZoneInfo(schedule.timezone))


# The kinds of jobs that a schedule may have. A copy is of the whole store, and so at the top only.
KINDS = (*(one.name for one in fields(Times)), "copy")


@section(frozen=True, config=RULES)
class Limits:
    """How much at a time."""

    api_concurrency: StrictInt = Field(default=8, ge=1, le=64, description="Concurrent API requests.")
    git_workers: Workers = Field(
        default_factory=cores,
        description="Git worker processes. Left out: one for each core, between two and eight.",
    )
    git_memory: StrictInt = Field(
        default=256,
        ge=32,
        le=65_536,
        description="MiB that all git workers may use to receive packs; the rest goes through files.",
    )
    api_limit: StrictInt = Field(
        default=1000,
        ge=60,
        le=1_000_000,
        description="Requests an hour that Bitbucket allows each credential, until its responses say.",
    )
    api_reserve: StrictInt = Field(
        default=100,
        ge=0,
        le=1_000_000,
        description="Requests of each hour that are left unused, for a restore.",
    )
    silence_timeout: Duration = Field(
        default=timedelta(minutes=5), description="How long a git server may send nothing.", examples=["5m"]
    )
    window: Duration = Field(
        default="3h",
        validate_default=True,
        description="How long one run waits for requests before it leaves the rest to the next.",
    )
    file_max: Size = Field(
        default="20GiB",
        validate_default=True,
        description="The largest download, attachment or log; larger ones are reported as missing.",
        examples=["20GiB"],
    )


@dataclass(frozen=True)
class Expiry:
    """When a credential of this kind expires, and the line and key of the file that say so."""

    line: int | None
    key: str
    kind: str
    expires: date


@section(frozen=True, config=RULES)
class NetworkConfig:
    """How servers are reached: the API, git and LFS alike."""

    proxy: Annotated[StrictStr, AfterValidator(values.proxy)] = Field(
        default=values.PROXY_FROM_ENVIRONMENT,
        description="The HTTP proxy: `from environment` (HTTPS_PROXY, NO_PROXY), `none`, or its URL.",
        examples=["http://proxy.example.org:3128"],
    )
    proxy_user: Text | None = Field(default=None, description="The user name for the proxy.")
    proxy_password: Secret | None = Field(default=None, description="The password for the proxy.")
    no_proxy: tuple[Text, ...] | None = Field(
        default=None,
        description="Hosts, domains and networks without a proxy. Left out: as NO_PROXY says.",
        examples=[["localhost", ".example.org", "10.0.0.0/8"]],
    )
    ca_file: LocalPath | None = Field(
        default=None, description="Certificates (PEM) that are trusted besides those of the system."
    )
    ip: IpVersion = Field(default="any", description="The version of IP for all connections.")
    connect_timeout: Duration = Field(
        default=timedelta(seconds=CONNECT_TIMEOUT),
        description="How long a connection attempt may take.",
        examples=["30s"],
    )
    user_agent: Annotated[StrictStr, AfterValidator(values.user_agent)] = Field(
        default="", description="A text that is added to mirror's User-Agent.", examples=["(backup of acme)"]
    )

    @model_validator(mode="after")
    def _user_named(self) -> NetworkConfig:
        if self.proxy_password is not None and self.proxy_user is None:
            raise ValueError("should have proxy_user where it has proxy_password")
        return self


@section(frozen=True, config=RULES)
class Runs:
    """How long run records are kept."""

    keep: KeepFor = Field(
        default=timedelta(days=400),
        description="How long `mirror prune` keeps run records; those since the last checkpoint but one "
        "are always kept.",
        examples=["400d"],
    )


@section(frozen=True, config=RULES)
class NotifyConfig:
    """Notices by Apprise, which the extra `notify` installs."""

    urls: Annotated[tuple[Secret, ...], AfterValidator(some)] = Field(
        description="Where to send them: the sources of Apprise's addresses, which contain secrets.",
        json_schema_extra={"minItems": 1},
    )
    on: Annotated[tuple[Event, ...], AfterValidator(some)] = Field(
        default=tuple(Event),
        description="The events that have notices. Left out: all of them.",
        examples=[["failure"]],
        json_schema_extra={"minItems": 1},
    )


@section(frozen=True, config=RULES)
class PingConfig:
    """Pings of a monitoring service in the style of healthchecks, for each backup of everything."""

    url: Secret = Field(description="The source of the ping URL, which is a secret.")


@section(frozen=True, config=RULES)
class WebConfig:
    """The page of the daemon and of `mirror web`, and metrics for Prometheus."""

    listen: Listen | None = Field(
        default=None,
        description="The IP address and port of the page. Left out: the daemon has none.",
        examples=["127.0.0.1:9321"],
    )
    token: Secret | None = Field(
        default=None,
        description="The token that opens the page and /metrics: at least 16 characters. Needed where other "
        "machines can reach the address, unless there are trusted proxies.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of proxies that sign people in and name them in X-Forwarded-User.",
        examples=[["10.0.0.0/8"]],
    )
    textfile: LocalPath | None = Field(
        default=None,
        description="The file for node_exporter's textfile collector, rewritten after each run.",
        examples=["/var/lib/node_exporter/mirror.prom"],
    )

    @model_validator(mode="after")
    def _some(self) -> WebConfig:
        if self.listen is None and self.token is None and not self.trusted_proxies and self.textfile is None:
            raise ValueError("should have listen, textfile or both")
        return self


@section(frozen=True, config=RULES)
class HooksConfig:
    """The door for Bitbucket's webhooks, which say that something changed."""

    url: HooksUrl = Field(
        description="The address at which Bitbucket reaches the door.",
        examples=["https://mirror.example.org"],
    )
    secret: Secret = Field(
        description="The secret that Bitbucket signs with: 32 to 128 characters, such as those of "
        "`openssl rand -hex 32`."
    )
    listen: Listen = Field(
        default="127.0.0.1:9322",
        validate_default=True,
        description="The IP address and port of the door.",
        examples=["127.0.0.1:9322"],
    )
    previous_secret: Secret | None = Field(
        default=None, description="The secret before it, which counts as well until this key is removed."
    )
    poll_every: Duration | None = Field(
        default=None,
        description="While hooks prove true, how long the API is not asked about repositories that no hook "
        "announces. Left out: each run asks.",
        examples=["24h"],
    )


@dataclass(frozen=True)
class Config:
    """The whole configuration. `source` is its file, if it has one. `credentials` are those of workspaces
    without their own."""

    store: Path
    bitbucket: BitbucketUrls
    workspaces: tuple[WorkspaceConfig, ...]
    schedule: Schedule = field(default_factory=Schedule)
    limits: Limits = field(default_factory=Limits)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    runs: Runs = field(default_factory=Runs)
    notify: NotifyConfig | None = None
    ping: PingConfig | None = None
    web: WebConfig | None = None
    hooks: HooksConfig | None = None
    cluster: ClusterConfig | None = None
    copies: tuple[CopyConfig, ...] = ()
    source: Path | None = None
    expiries: tuple[Expiry, ...] = ()
    credentials: tuple[Credential, ...] = ()

    def scopes(self, kind: str) -> tuple[Scope, ...]:
        """The scopes of the jobs of one kind: one for each workspace that has a schedule of its own for it,
        and first one for all others, if there are any."""
        own = [one.workspace for one in self.workspaces if one.schedule and one.schedule.of(kind)]
        apart = frozenset(name.lower() for name in own if name is not None)
        rest = Scope(but=apart)
        has_rest = any(rest.has(one.workspace) for one in self.workspaces)
        return (*((rest,) if has_rest else ()), *(Scope(only=name) for name in sorted(apart)))

    def schedule_of(self, scope: Scope) -> Schedule:
        """The schedule that the jobs of a scope follow."""
        own = (one.schedule for one in self.workspaces if one.schedule and scope.has(one.workspace))
        return self.schedule if scope.only is None else next(own, self.schedule)

    def entry_of(self, names: Collection[str]) -> WorkspaceConfig | None:
        """The entry of the workspace with one of these names (slugs or uuids), else the one for each
        workspace; None where there is neither."""
        wanted = {one.lower() for one in names}
        for one in self.workspaces:
            if one.workspace is not None and one.workspace.lower() in wanted:
                return one
        return next((one for one in self.workspaces if one.workspace is None), None)

    def signing_in_to(self, workspace: str) -> WorkspaceConfig:
        """How to sign in to a workspace, backed up or not: as its own entry says, else with the credentials
        for all. Raises UsageError where there are none."""
        for one in self.workspaces:
            if one.workspace is not None and one.workspace.lower() == workspace.lower():
                return one
        every = self.credentials or next(
            (one.credentials for one in self.workspaces if one.workspace is None), ()
        )
        if not every:
            raise UsageError(
                f"{self.source or 'the configuration'} has no credential for the workspace {workspace}",
                hint=f"add `credential:` at the top, or an entry `workspace: {workspace}` with its own",
            )
        return WorkspaceConfig(workspace, every)
