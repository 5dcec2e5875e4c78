"""Every fault at once, each with its line and what to do, and no secret in the file or in a message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mirror.auth.credentials import ApiToken, WorkspaceAccessToken
from mirror.auth.secrets import SecretSource
from mirror.config import (
    After,
    Config,
    Cron,
    Every,
    expiring,
    from_environment,
    in_force,
    json_schema,
    load,
    load_text,
    show,
)
from mirror.config.settings import Brake
from mirror.errors import ConfigError, UsageError
from mirror.notify.conditions import Event
from mirror.retention import Policy

CREDENTIAL = "credential: {kind: workspace_access_token, token: {file: t}}"
ROOT = Path(__file__).parents[2]
COPIES = "copies: [{to: 's3://offsite/acme'}]"
GOOD = """\
store: backup
workspaces:
  - workspace: acme
    credential: {kind: workspace_access_token, token: {file: acme.token}}
"""


def faults(text: str) -> dict[str, tuple[int | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "config.yaml", folder=Path("/etc/mirror"))
    return {fault.key: (fault.line, fault.problem, fault.remedy) for fault in caught.value.faults}


def read(text: str) -> Config:
    return load_text(text, "config.yaml", folder=Path("/etc/mirror"))


def test_paths_are_relative_to_the_file() -> None:
    config = read(GOOD)
    assert config.store == Path("/etc/mirror/backup")
    assert config.workspaces[0].credentials == (
        WorkspaceAccessToken(SecretSource("file", "/etc/mirror/acme.token")),
    )


def test_all_faults_are_told_at_once_with_their_lines() -> None:
    found = faults(
        "store: x\n"
        "stor: y\n"
        "web: {textfile: m.prom, listen: 'everywhere'}\n"
        "workspaces:\n"
        "  - workspace: acme\n"
        "    credential: {kind: api_token, token: {env: T}}\n"
        "    parts: {issues: perhaps}\n"
        "    include: []\n"
        "schedule: {backup: 'every now', verify: '* * *', timezone: Mars/Olympus}\n"
        "limits: {git_workers: 0, silence_timeout: soon}\n"
        "bitbucket: {api_url: 'http://api.example.org', git_url: 'https://me:pw@x.org'}\n"
    )
    assert {key: line for key, (line, _, _) in found.items()} == {
        "stor": 2, "web.listen": 3, "workspaces[0].credential.email": 6, "workspaces[0].parts.issues": 7,
        "workspaces[0].include": 8, "schedule.backup": 9, "schedule.verify": 9,
        "schedule.timezone": 9, "limits.git_workers": 10, "limits.silence_timeout": 10,
        "bitbucket.api_url": 11, "bitbucket.git_url": 11,
    }  # fmt: skip
    assert "did you mean store?" in found["stor"][2]
    assert "IP address and a port" in found["web.listen"][1]
    assert all(remedy for _, _, remedy in found.values())


@pytest.mark.parametrize(
    "token",
    ["ATCTT3xFfGN0-secret", "123456", "['ATCTT3xFfGN0-secret']", "true"],
    ids=["text", "digits", "list", "bool"],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(token: str) -> None:
    text = GOOD.replace("{file: acme.token}", token)
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "must not be in this file" in caught.value.message
    assert "{credential: …}" in caught.value.message
    assert token.strip("[']") not in caught.value.message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!vault s3cr3t", "cannot be read"),
        ("!!int s3cr3t", "cannot be read"),
        ("!!bool s3cr3t", "cannot be read"),
        ("!!timestamp s3cr3t", "cannot be read"),
        ("!!binary s3cr3t", "cannot be read"),
        ("{file: !vault s3cr3t}", "cannot be read"),
        ("!s3cr3t!x y", "is not YAML"),
        ("*s3cr3t", "is not YAML: found undefined alias; "),
        ("{s3cr3t}", "does not name the source"),
        ("{env: T, s3cr3t: , s3cr3tly: }", "does not name the source"),
        ("{s3cr3t: 1, s3cr3t: 2}", "is repeated"),
        ("{file: {s3cr3t: 1, s3cr3t: 2}}", "is repeated"),
        ("[{s3cr3t: 1, s3cr3t: 2}]", "must not be in this file"),
    ],
)
def test_what_stands_below_a_secrets_key_is_told_by_its_line_and_never_repeated(
    value: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(GOOD.replace("{file: acme.token}", value))
    assert {fault.line for fault in caught.value.faults} == {4}
    assert "s3cr3t" not in caught.value.message
    assert len(set(caught.value.faults)) == len(caught.value.faults)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "not a mapping"),
        ("store: [\n", "is not YAML"),
        ("store: a\nstore: b\n", "is repeated"),
        ("store: a\n", "no credential"),
        ("store: a\nworkspaces: [{workspace: acme}]\n", "no credential"),
        ("store: a\n\tcredential: b\n", "is not YAML"),
        (
            GOOD + "credential: {kind: api_token, email: a@x, token: {env: A, file: B}}\n",
            "does not name the source",
        ),
        (GOOD + "credential: {kind: password}\n", "not one of the known"),
        (GOOD + "credential: {email: x}\n", "no kind"),
    ],
)
def test_what_is_no_configuration_says_so(text: str, words: str) -> None:
    assert any(words in problem for _, problem, _ in faults(text).values()), faults(text)


API_TOKEN = "store: s\ncredential: {kind: api_token, email: a@x, token: {env: T}, expires: %s}\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (API_TOKEN % "2026-13-45", 2, "credential.expires", "no valid date"),
        (API_TOKEN % "'2026-13-45'", 2, "credential.expires", "should be a date such as"),
        (API_TOKEN % "soon", 2, "credential.expires", "should be a date such as"),
        (f"{CREDENTIAL}\nstore: !!int abc\n", 2, "store", "cannot be read"),
        (f"{CREDENTIAL}\nstore: ~nosuchuser/x\n", 2, "store", "name of no user"),
        (f'{CREDENTIAL}\nstore: "a\\0b"\n', 2, "store", "contains a NUL"),
        (f"store: s\n{CREDENTIAL.replace('t}', '~nosuchuser/x}')}\n", 2, "credential.token.file", "no user"),
        (f"store: s\n{CREDENTIAL}\nworkspaces: &a\n  - *a\n", 3, "workspaces[0]", "a value that contains it"),
        (f"store: s\n{CREDENTIAL}\nbrake: &b {{share: *b}}\n", 3, "brake.share", "a value that contains it"),
        (f"store: s\n{CREDENTIAL}\nbitbucket: {{api_url: 'https://[x'}}\n", 3, "bitbucket.api_url", "a URL"),
        (
            f"store: s\n{CREDENTIAL}\nbitbucket: {{git_url: 'https://x:99999/'}}\n",
            3,
            "bitbucket.git_url",
            "a URL",
        ),
    ],
)
def test_a_value_that_cannot_be_is_told_by_line_and_key(text: str, line: int, key: str, words: str) -> None:
    [(found, (at, problem, _))] = faults(text).items()
    assert (found, at) == (key, line) and words in problem


def test_an_alias_may_stand_for_what_is_beside_it() -> None:
    text = "store: &s x\nworkspaces: [{workspace: *s, credential: &c {kind: api_token, email: a@x, "
    config = read(text + "token: {env: T}}}, {workspace: y, credential: *c}]\n")
    assert [one.workspace for one in config.workspaces] == ["x", "y"]
    assert config.workspaces[0].credentials == config.workspaces[1].credentials


def test_what_is_nested_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        read("store: " + "[" * 5000)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("retention: {keep_within: 9999y}", "retention.keep_within"),
        ("retention: {keep_last: 1, keep_gone: 9999y}", "retention.keep_gone"),
        ("retention: {keep_last: 1, pipeline_logs: 9999y}", "retention.pipeline_logs"),
        ("schedule: {backup: every 999999y}", "schedule.backup"),
        ("limits: {window: 365001d}", "limits.window"),
    ],
)
def test_a_time_longer_than_dates_reach_is_refused_where_it_is_read(section: str, key: str) -> None:
    [(found, (line, problem, _))] = faults(f"store: s\n{CREDENTIAL}\n{section}\n").items()
    assert (found, line) == (key, 3) and problem == "should be no longer than 1000y"


def test_the_longest_time_reaches_from_the_first_to_the_last_date_of_ours() -> None:
    config = read(f"store: s\n{CREDENTIAL}\nretention: {{keep_within: 1000y}}\n")
    retention = config.workspaces[0].retention
    assert retention is not None and retention.policy.keep_within is not None
    for year in (2008, 2100):  # Bitbucket's fault first, then those of our own keys
        moment = datetime(year, 1, 1, tzinfo=UTC)
        assert moment - retention.policy.keep_within < moment < moment + retention.policy.keep_within


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (
            "workspaces: [{workspace: acme}, {workspace: beta}, {workspace: acme}]",
            3,
            "workspaces[2].workspace",
            "the same workspace as workspaces[0]",
        ),
        (
            "workspaces:\n- workspace: acme\n- workspace: ACME",
            5,
            "workspaces[1].workspace",
            "the same workspace",
        ),
        ("workspaces: [{workspace: https://bitbucket.org/acme}]", 3, "workspaces[0].workspace", "not a URL"),
        ("workspaces: [{workspace: acme/website}]", 3, "workspaces[0].workspace", "choose repositories with"),
        ("workspaces: [{workspace: acme corp}]", 3, "workspaces[0].workspace", "a workspace's slug"),
        (
            "workspaces: [{workspace: 0f8fad5b-d9cb-469f-a165-70867728950e}]",
            3,
            "workspaces[0].workspace",
            "braces",
        ),
        ("bitbucket: {api_url: https://api.bitbucket.org}", 3, "bitbucket.api_url", "end with /2.0"),
        ("bitbucket: {api_url: https://api.bitbucket.org/1.0}", 3, "bitbucket.api_url", "end with /2.0"),
        ("bitbucket: {api_url: 'https://api.bitbucket.org/2.0?a=b'}", 3, "bitbucket.api_url", "no query"),
        ("bitbucket: {git_url: 'https://bitbucket.org#x'}", 3, "bitbucket.git_url", "no fragment"),
        ("limits: {api_reserve: 2000}", 3, "limits.api_reserve", "2000 of 1000 an hour"),
        ("limits: {api_limit: 100}", 3, "limits.api_limit", "leaves no request"),
        ("limits:\n  api_limit: 500\n  api_reserve: 500", 5, "limits.api_reserve", "leaves no request"),
        ("schedule: {verify: every 1s}", 3, "schedule.verify", "every 1m or less often"),
        ("schedule: {verify: 0 0 30 feb *}", 3, "schedule.verify", "never fires"),
        ("schedule: {verify: 0 0 30 feb}", 3, "schedule.verify", "five cron fields"),
        ("schedule: {prune: every 1d}", 3, "schedule.prune", "without retention"),
        ("schedule: {copy: every 1d}", 3, "schedule.copy", "no place to copy to"),
        (f"schedule: {{copy: after backup}}\n{COPIES}", 3, "schedule.copy", "no backup is scheduled"),
        (f"schedule: {{copy: after verify}}\n{COPIES}", 3, "schedule.copy", 'or "after backup"'),
        ("copies: {to: s3://b/p}", 3, "copies", "should be a list"),
        ("schedule: {verify: after backup}", 3, "schedule.verify", "five cron fields"),
        (
            "workspaces: [{workspace: a, schedule: {copy: every 1d}}]",
            3,
            "workspaces[0].schedule.copy",
            "a copy is of the whole store",
        ),
        (
            "retention: {keep_within: 6m}",
            3,
            "retention.keep_within",
            "write 6mo or 180d for months, 6min for minutes",
        ),
        ("retention: {keep_last: 1, keep_gone: 6 m}", 3, "retention.keep_gone", "6mo or 180d"),
        ("retention: {keep_last: 1, pipeline_logs: 3m}", 3, "retention.pipeline_logs", "3mo or 90d"),
        (
            "workspaces: [{workspace: a, retention: {keep_within: 6m}}]",
            3,
            "workspaces[0].retention.keep_within",
            "6mo or 180d",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_key(
    text: str, line: int, key: str, words: str
) -> None:
    [(found, (where, problem, _))] = faults(f"store: s\n{CREDENTIAL}\n{text}\n").items()
    assert (found, where) == (key, line)
    assert words in problem


def test_months_and_minutes_are_written_out_where_something_is_kept() -> None:
    text = f"store: s\n{CREDENTIAL}\nretention: {{keep_within: 6mo, keep_gone: 90min}}\n"
    retention = read(text).workspaces[0].retention
    assert retention is not None
    assert (retention.policy.keep_within, retention.keep_gone) == (timedelta(days=180), timedelta(minutes=90))
    # Mirror can load what it shows.
    assert read(show(read(text))).workspaces[0].retention == retention
    # In other keys, m means minutes, as usual.
    assert read(f"store: s\n{CREDENTIAL}\nlimits: {{window: 6m}}\n").limits.window == timedelta(minutes=6)


def test_tokens_that_expire_are_told_with_their_place() -> None:
    config = read(
        "store: s\n"
        "credential: {kind: workspace_access_token, token: {env: T}, expires: 2026-12-20}\n"
        "workspaces:\n"
        "- workspace: a\n"
        "  credentials:\n"
        "  - {kind: api_token, email: a@x, token: {env: U}, expires: 2026-11-01}\n"
        "  - {kind: project_access_token, token: {env: V}, expires: 2026-12-01}\n"
        "- workspace: b\n"
        "  credential: {kind: repository_access_token, token: {env: W}, expires: 2027-11-01}\n"
    )
    told = [(left, fault.text("c.yaml")) for left, fault in expiring(config, date(2026, 11, 23))]
    remedy = "make a new token, and set its expiry date here"
    first, second = "workspaces[0].credentials[0].expires", "workspaces[0].credentials[1].expires"
    top = "credential.expires"
    assert told == [
        (-22, f"c.yaml:6: {first}: the api_token expired on 2026-11-01; {remedy}"),
        (8, f"c.yaml:7: {second}: the project_access_token expires in 8 days, on 2026-12-01; {remedy}"),
        (27, f"c.yaml:2: {top}: the workspace_access_token expires in 27 days, on 2026-12-20; {remedy}"),
    ]
    assert [left for left, _ in expiring(config, date(2026, 12, 1))] == [-30, 0, 19]


def test_a_misspelt_kind_of_setting_is_told_with_the_nearest() -> None:
    text = "store: x\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
    text += (
        "workspaces:\n  - workspace: a\n    accept_missing: [issues, settings/deploy-kyes, nothing-like-it]\n"
    )
    [near, far] = faults(text).values()
    assert near == (5, "is not one of the known values", "did you mean settings/deploy-keys?")
    assert far[2].startswith("use one of 'code', ")
    good = read(text.replace("deploy-kyes, nothing-like-it", "deploy-keys"))
    assert good.workspaces[0].accept_missing == ("issues", "settings/deploy-keys")


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"store: caf\xe9\n")
    for path, words in (
        (tmp_path / "absent", "cannot be read"),
        (tmp_path, "directory"),
        (tmp_path / "latin", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(path)


def test_a_credential_at_the_top_is_for_all_that_have_none() -> None:
    text = "store: x\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
    assert [one.workspace for one in read(text).workspaces] == [None]
    config = read(text + "workspaces: [{workspace: a}]\n")
    assert config.workspaces[0].credentials[0].kind == "workspace_access_token"


def test_a_copy_follows_backups_or_has_times_of_its_own() -> None:
    text = f"schedule: {{backup: every 4h, copy: after backup}}\n{COPIES}\n"
    config = read(GOOD.replace("workspaces:", f"{text}workspaces:") + "    schedule: {backup: every 1h}\n")
    assert config.schedule.copy == After("backup")
    assert [scope.is_everything for scope in config.scopes("copy")] == [True], "of workspaces too"
    assert read(show(config)).schedule == config.schedule
    again = read(f"{GOOD}schedule: {{copy: '0 7 * * *'}}\n{COPIES}\n")
    assert again.schedule.copy == Cron("0 7 * * *")
    own = read(f"schedule: {{copy: after backup}}\n{COPIES}\n{GOOD}    schedule: {{backup: every 1h}}\n")
    assert own.schedule.backup is None


def test_triggers_are_cron_or_intervals() -> None:
    config = read(GOOD + "schedule: {backup: every 4h, verify: '30 3 * * sun'}\n")
    assert config.schedule.backup == Every(timedelta(hours=4))
    assert config.schedule.verify == Cron("30 3 * * sun")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits: {git_worker: 2}", "did you mean git_workers?"),
        ("schedule: {nonsense: 2}", "is not a known key"),
        ("web: {textfile: a, tokens: {env: T}}", "did you mean token?"),
    ],
)
def test_an_unknown_key_of_a_section_is_told_as_one(text: str, words: str) -> None:
    [(_, problem, remedy)] = faults(GOOD + text + "\n").values()
    assert words in f"{problem} {remedy}"


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:9321", "127.0.0.1", 9321, True),
        ("localhost:9321", "127.0.0.1", 9321, True),
        ("'[::1]:0'", "::1", 0, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
    ],
)
def test_the_address_of_the_page(text: str, host: str, port: int, is_loopback: bool) -> None:
    web = read(
        GOOD + f"web: {{listen: {text}, token: {{env: T}}, trusted_proxies: [10.0.0.0/8, '::1']}}\n"
    ).web
    assert web is not None and web.listen is not None
    assert (web.listen.host, web.listen.port, web.listen.is_loopback) == (host, port, is_loopback)
    assert [str(one) for one in web.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("{}", "web", "listen, textfile or both"),
        ("{listen: example.org:80}", "web.listen", "IP address and a port"),
        ("{listen: '1.2.3.4:70000'}", "web.listen", "IP address and a port"),
        ("{listen: '0.0.0.0:80'}", "web.listen", "add web.token or web.trusted_proxies"),
        ("{listen: '0.0.0.0:80', trusted_proxies: []}", "web.listen", "add web.token"),
        (
            "{listen: '127.0.0.1:80', trusted_proxies: [10.0.0.1/8]}",
            "web.trusted_proxies",
            "a list of networks",
        ),
        ("{listen: '127.0.0.1:80', token: secret}", "web.token", "contains a secret"),
    ],
)
def test_a_page_that_would_be_open_or_cannot_be_reached_is_refused(text: str, key: str, words: str) -> None:
    found = faults(GOOD + f"web: {text}\n")
    assert words in " ".join(found[key][1:])


HOOKS = "hooks: {listen: '127.0.0.1:9322', url: 'https://mirror.example.org'"


def test_hooks() -> None:
    config = read(GOOD + HOOKS + ", secret: {file: hooks}, poll_every: 24h}\n")
    assert config.hooks is not None
    assert config.hooks.listen.text == "127.0.0.1:9322"
    assert config.hooks.url == "https://mirror.example.org"
    assert config.hooks.secret == SecretSource("file", "/etc/mirror/hooks")
    assert config.hooks.poll_every == timedelta(hours=24)
    assert config.hooks.previous_secret is None
    assert read(show(config)) == replace(config, source=None, expiries=())
    assert read(GOOD).hooks is None


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (HOOKS + "}", "hooks.secret", "is missing"),
        (HOOKS + ", secret: S3CRET}", "hooks.secret", "contains a secret"),
        (HOOKS + ", secret: {S3CRET: x}}", "hooks.secret", "source of the secret"),
        (
            HOOKS + ", secret: {env: A}, previous_secret: S3CRET}",
            "hooks.previous_secret",
            "contains a secret",
        ),
        (HOOKS + ", secret: {env: A}, poll_every: often}", "hooks.poll_every", "length of time"),
        ("hooks: {listen: x, url: 'https://a.b', secret: {env: A}}", "hooks.listen", "IP address"),
        ("hooks: {listen: '127.0.0.1:1', url: 'http://a.b', secret: {env: A}}", "hooks.url", "https://"),
        ("hooks: {listen: '127.0.0.1:1', url: {file: a}, secret: {env: A}}", "hooks.url", "string"),
        (
            "hooks: {listen: '127.0.0.1:1', url: 'https://me:S3CRET@a.b', secret: {env: A}}",
            "hooks.url",
            "user",
        ),
    ],
)
def test_faults_of_hooks(text: str, key: str, words: str) -> None:
    found = faults(GOOD + text + "\n")
    _, problem, remedy = found[key]
    assert words in f"{problem} {remedy}"
    assert "S3CRET" not in str(found)


CLUSTER = "cluster: {database: {file: db}, shard: backup-1"


def test_cluster() -> None:
    config = read(GOOD + CLUSTER + "}\n")
    assert config.cluster is not None
    assert config.cluster.database == SecretSource("file", "/etc/mirror/db")
    assert (config.cluster.shard, config.cluster.weight) == ("backup-1", 1)
    assert read(show(config)) == replace(config, source=None, expiries=())
    assert read(GOOD).cluster is None


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("cluster: {shard: a}", "cluster.database", "is missing"),
        ("cluster: {database: 'postgresql://me:S3CRET@db/x', shard: a}", "cluster.database", "a secret"),
        ("cluster: {database: {S3CRET: x}, shard: a}", "cluster.database", "source of the secret"),
        ("cluster: {database: {env: A}}", "cluster.shard", "is missing"),
        ("cluster: {database: {env: A}, shard: Backup_1}", "cluster.shard", "lower-case letters"),
        ("cluster: {database: {env: A}, shard: -a}", "cluster.shard", "lower-case letters"),
        (f"cluster: {{database: {{env: A}}, shard: {'a' * 41}}}", "cluster.shard", "up to 40"),
        (CLUSTER + ", weight: 0}", "cluster.weight", "greater than or equal to 1"),
        (CLUSTER + ", wieght: 2}", "cluster.wieght", "did you mean weight?"),
    ],
)
def test_faults_of_the_cluster(text: str, key: str, words: str) -> None:
    found = faults(GOOD + text + "\n")
    _, problem, remedy = found[key]
    assert words in f"{problem} {remedy}"
    assert "S3CRET" not in str(found)


def test_notices_and_pings() -> None:
    config = read(GOOD + "notify: {urls: [{file: chat}, {env: MAIL}]}\nping: {url: {file: ping}}\n")
    assert config.notify is not None and config.ping is not None
    assert config.notify.urls == (SecretSource("file", "/etc/mirror/chat"), SecretSource("env", "MAIL"))
    assert config.notify.on == tuple(Event)
    assert config.ping.url == SecretSource("file", "/etc/mirror/ping")
    assert read(show(config)) == replace(config, source=None, expiries=())
    assert read(GOOD).notify is None


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("notify: {urls: ['mailto://me:S3CRET@x.org']}", "notify.urls[0]", "contains a secret"),
        ("notify: {urls: [{env: A}, S3CRET]}", "notify.urls[1]", "contains a secret"),
        ("notify: {urls: S3CRET}", "notify.urls", "contains a secret"),
        ("notify: {urls: [{S3CRET: x}]}", "notify.urls[0]", "source of the secret"),
        ("notify: {urls: []}", "notify.urls", "source of the secret"),
        ("notify: {on: [failure]}", "notify.urls", "is missing"),
        ("notify: {urls: [{env: A}], on: [failures]}", "notify.on[0]", "did you mean failure?"),
        ("notify: {urls: [{env: A}], on: []}", "notify.on", "at least one"),
        ("ping: {url: 'https://hc-ping.com/S3CRET'}", "ping.url", "contains a secret"),
        ("ping: {url: {file: a, env: b}}", "ping.url", "source of the secret"),
        ("ping: {}", "ping.url", "is missing"),
    ],
)
def test_faults_of_notices_name_the_key_and_never_the_secret(text: str, key: str, words: str) -> None:
    found = faults(GOOD + text + "\n")
    assert list(found) == [key]
    told = " ".join(map(str, found[key]))
    assert words in told and "S3CRET" not in told


def test_the_example_loads_and_names_every_option() -> None:
    path = ROOT / "config.example.yaml"
    load(path)
    text = path.read_text(encoding="utf-8")
    for name in option_names(json_schema()):
        assert f"{name}:" in text, f"config.example.yaml does not name {name}"


def option_names(schema: dict[str, Any]) -> set[str]:
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return names


def test_every_option_has_a_sentence() -> None:
    schema = json_schema()
    for owner in [schema, *schema["$defs"].values()]:
        for name, option in owner.get("properties", {}).items():
            described = schema["$defs"].get(str(option.get("$ref", "")).rpartition("/")[2], {})
            assert option.get("description") or described.get("description"), name


def test_the_schema_accepts_the_example_and_refuses_what_loading_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    example = yaml.load((ROOT / "config.example.yaml").read_text(), Loader=yaml.BaseLoader)
    del example["limits"], example["retention"], example["brake"], example["cluster"]["weight"]
    del example["workspaces"][0]["parts"]  # the plain loader does not convert numbers
    assert list(validator.iter_errors(example)) == []
    for text in (
        "store: x\nunknown: 1\n",
        GOOD.replace("acme.token", "a, env: b"),
        GOOD.replace("_access", ""),
    ):
        data = yaml.safe_load(text)
        if "a, env" not in text:
            assert list(validator.iter_errors(data)), text


@pytest.mark.parametrize(("text", "size"), [("1KiB", 1024), ("512 MiB", 512 << 20), ("2TiB", 2 << 40)])
def test_how_large_a_file_may_be(text: str, size: int) -> None:
    config = read(f"{GOOD}limits: {{file_max: {text}}}\n")
    assert config.limits.file_max == size
    assert f"file_max: {text.replace(' ', '')}\n" in show(config)
    assert "file_max: 20GiB\n" in show(read(GOOD))


@pytest.mark.parametrize("text", ["20", "20GB", "0GiB", "-1GiB", "large"])
def test_a_size_without_its_unit_is_refused(text: str) -> None:
    [(line, problem, _)] = faults(f"{GOOD}limits: {{file_max: {text}}}\n").values()
    assert line == 5 and "20GiB" in problem


def test_show_says_where_secrets_are_and_loads_again() -> None:
    text = show(read(GOOD + "schedule: {backup: every 90m}\n"))
    assert "file: /etc/mirror/acme.token" in text
    assert read(text).schedule.backup == Every(timedelta(minutes=90))


def test_without_a_file_a_users_token_needs_its_email() -> None:
    with pytest.raises(UsageError) as caught:
        from_environment({"BITBUCKET_TOKEN": "ATATT3x"}, ["acme"], Path("/b"))
    assert "BITBUCKET_EMAIL" in (caught.value.hint or "")
    environment = {"BITBUCKET_TOKEN": "ATATT3x", "BITBUCKET_EMAIL": "a@x"}
    config = from_environment(environment, ["acme"], Path("/b"))
    assert isinstance(config.workspaces[0].credentials[0], ApiToken)
    with pytest.raises(UsageError, match="BITBUCKET_TOKEN"):
        from_environment({}, ["acme"], Path("/b"))


def test_retention_and_brake_hold_for_each_workspace_unless_it_has_its_own() -> None:
    config = load_text(
        f"store: s\n{CREDENTIAL}\n"
        "retention: {keep_last: 3, keep_within: 2w, pipeline_logs: 1y}\n"
        "brake: {share: 25%, at_least: 2}\n"
        "workspaces: [{workspace: a}, {workspace: b, retention: {keep_daily: 9}, brake: {share: 1%}}]\n",
        "config.yaml",
        folder=Path("/"),
    )
    first, second = config.workspaces
    assert first.retention is not None and second.retention is not None
    assert (first.retention.policy.keep_last, first.retention.policy.keep_within) == (3, timedelta(days=14))
    assert first.retention.pipeline_logs == timedelta(days=365) and first.retention.keep_gone is None
    assert second.retention.policy == Policy(keep_daily=9)
    assert (first.brake, second.brake) == (Brake(0.25, 2), Brake(0.01, 5))


@pytest.mark.parametrize(
    "section",
    [
        "retention: {}", "retention: {keep_daily: 0, pipeline_logs: 7d}", "retention: {keep_last: -1}",
        "retention: {keep_within: soon}", "brake: {share: 0%}", "brake: {share: 0.1}", "brake: {at_least: 0}",
    ],
)  # fmt: skip
def test_a_retention_that_keeps_nothing_and_a_brake_that_never_holds_are_refused(section: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_text(f"store: s\n{CREDENTIAL}\n{section}\n", "config.yaml", folder=Path("/"))
    assert [fault.line for fault in refused.value.faults] == [3]


DOOR = "hooks: {{url: '{url}', secret: {{env: HOOKS}}{more}}}\n"


def test_hooks_have_defaults_and_show_as_they_are_written() -> None:
    config = load_text(GOOD + DOOR.format(url="https://mirror.example.org/", more=""), "c", folder=Path())
    assert config.hooks is not None
    assert config.hooks.listen.text == "127.0.0.1:9322"
    assert config.hooks.poll_every is None
    assert in_force(config)["hooks"] == {
        "url": "https://mirror.example.org",
        "secret": {"env": "HOOKS"},
        "listen": "127.0.0.1:9322",
        "previous_secret": None,
        "poll_every": None,
    }
    assert load_text(show(config), "c", folder=Path()).hooks == config.hooks


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://mirror.example.org", "https://"),
        ("https://ann:secret@mirror.example.org", "user name"),
        ("https://mirror.example.org/?token=1", "no query"),
        ("https://mirror.example.org/#x", "no query and no fragment"),
        ("https://mirror.example.org/hooks/", "end before /hooks"),
        ("https://mirror.example.org/a/../b", "no path"),
        ("https://mirror.example.org//b", "no path"),
        ("https://mirror.example.org/%2e%2e", "no path"),
        ("https:///x", "host"),
    ],
)
def test_an_address_for_hooks_that_bitbucket_could_not_reach_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(GOOD + DOOR.format(url=url, more=""), "c", folder=Path())
    [fault] = caught.value.faults
    assert fault.key == "hooks.url"
    assert says in fault.problem


@pytest.mark.parametrize("url", ["http://127.0.0.1:9322", "https://example.org/mirror", "https://[::1]:8443"])
def test_an_address_for_hooks_may_be_loopback_or_have_a_plain_path(url: str) -> None:
    config = load_text(GOOD + DOOR.format(url=url, more=""), "c", folder=Path())
    assert config.hooks is not None
    assert config.hooks.url == url


@pytest.mark.parametrize("key", ["secret", "previous_secret"])
def test_a_secret_of_hooks_is_never_in_the_file(key: str) -> None:
    text = GOOD + f"hooks: {{url: 'https://mirror.example.org', secret: {{env: A}}, {key}: hunter2hunter2}}\n"
    if key == "secret":
        text = GOOD + "hooks: {url: 'https://mirror.example.org', secret: hunter2hunter2}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text, "c", folder=Path())
    assert [fault.key for fault in caught.value.faults] == [f"hooks.{key}"]
    assert "hunter2" not in str(caught.value)


def test_aliases_of_aliases_are_refused_at_once(tmp_path: Path) -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))
    path = tmp_path / "config.yaml"
    path.write_text(f"a0: &a0 [{', '.join('x' * 9)}]\n{levels}\n")
    with pytest.raises(ConfigError, match="has more than 50,000 values"):
        load(path)


def test_a_file_that_is_too_large_for_a_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        load(path)
