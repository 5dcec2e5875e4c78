"""From YAML text to a Config, or to all faults at once, each with its line."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mirror.auth.credentials import AccessToken, ApiToken, Credential
from mirror.auth.secrets import SecretSource
from mirror.config import shape
from mirror.config.across import SECRET_LISTS, Place, contradictions, dotted, expiries, has_secret, is_secret
from mirror.config.cluster import ClusterConfig
from mirror.config.copies import CopyConfig
from mirror.config.plain import SOURCE_REMEDY, read_mapping, read_text
from mirror.config.settings import (
    After,
    BitbucketUrls,
    Brake,
    ByteSize,
    Config,
    Cron,
    Every,
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
    duration_text,
)
from mirror.config.types import SecretShape
from mirror.config.values import Address, IpNetwork
from mirror.errors import ConfigError, Fault, UsageError

_SHAPES = (
    shape.ConfigShape, shape.WorkspaceShape, BitbucketUrls, Parts, Schedule, WorkspaceSchedule, Limits, Runs,
    shape.RetentionShape, Brake, SecretShape, shape.AccessTokenShape, NetworkConfig, shape.ApiTokenShape,
    NotifyConfig, PingConfig, WebConfig, HooksConfig, ClusterConfig, CopyConfig, shape.OAuthConsumerShape,
    shape.AppPasswordShape, shape.ConnectJwtShape,
)  # fmt: skip
# What pydantic calls an unknown key: of a model, and of a dataclass.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def load(path: Path) -> Config:
    """The configuration in the file at `path`. Raises ConfigError with all faults."""
    text = read_text(path, "check the path, or give another with -c")
    return load_text(text, str(path), folder=path.absolute().parent, source=path)


def load_text(text: str, name: str, *, folder: Path, source: Path | None = None) -> Config:
    """The configuration in `text`; relative paths are below `folder`. Raises ConfigError."""
    plain = read_mapping(text, name, empty="begin with config.example.yaml", begin="begin with `store: …`")
    data, lines, faults = plain.data, plain.lines, list(plain.faults)
    faults += _secrets_in_plain(data, (), lines)
    known = {fault.key for fault in faults}
    try:
        checked = shape.ConfigShape.model_validate(data, context=folder)
    except ValidationError as error:
        faults += [fault for fault in _faults(error, data, lines) if fault.key not in known]
    else:
        faults += contradictions(checked, lines)
    if faults:
        raise ConfigError(name, sorted(set(faults), key=lambda fault: (fault.line or 0, fault.key)))
    return replace(checked.settings(source), expiries=expiries(checked, lines))


def from_environment(environment: Mapping[str, str], workspaces: Sequence[str], store: Path) -> Config:
    """A configuration without a file, for `workspaces`, with the credential in BITBUCKET_TOKEN.

    A token that begins with ATAT is a user's, and needs BITBUCKET_EMAIL. Raises UsageError.
    """
    token = environment.get("BITBUCKET_TOKEN", "")
    if not token:
        raise UsageError(
            "there is no configuration file, and BITBUCKET_TOKEN is not set",
            hint="write a config.yaml (see config.example.yaml), or set BITBUCKET_TOKEN",
        )
    source = SecretSource("env", "BITBUCKET_TOKEN")
    credential: Credential = AccessToken(source)
    if token.startswith("ATAT"):
        email = environment.get("BITBUCKET_EMAIL", "")
        if not email:
            raise UsageError(
                "BITBUCKET_TOKEN is a user's API token, which signs in with an e-mail address",
                hint="set BITBUCKET_EMAIL to the e-mail address of its Atlassian account",
            )
        credential = ApiToken(email, source)
    names: Sequence[str | None] = workspaces or [None]
    entries = tuple(WorkspaceConfig(name, (credential,)) for name in names)
    return Config(store, BitbucketUrls(), entries, credentials=(credential,))


def _secrets_in_plain(
    data: Any, place: Place, lines: Mapping[Place, int], *, are_secrets: bool = False
) -> list[Fault]:
    """Faults for secrets in the file itself, which never repeat them. `are_secrets`: all values of `data`
    are, whatever their keys."""
    found: list[Fault] = []
    if isinstance(data, dict):
        for key, value in data.items():
            inner = (*place, key)
            if key in SECRET_LISTS and isinstance(value, list):
                for index, item in enumerate(value):
                    found += _secrets_in_plain({index: item}, inner, lines, are_secrets=True)
            elif (are_secrets or is_secret(inner)) and not isinstance(value, dict | type(None)):
                found.append(
                    Fault(
                        lines.get(inner),
                        dotted(inner),
                        "contains a secret, which must not be in this file",
                        SOURCE_REMEDY,
                    )
                )
            else:
                found += _secrets_in_plain(value, inner, lines)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            found += _secrets_in_plain(value, (*place, index), lines)
    return found


def _faults(error: ValidationError, data: Any, lines: Mapping[Place, int]) -> Iterator[Fault]:
    for one in error.errors(include_url=False, include_input=False, include_context=True):
        place = _real_place(one["loc"], data, one["type"])
        line = next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None)
        problem, remedy = _message(one, place, data)
        yield Fault(line, dotted(place), problem, remedy)


def _real_place(place: Sequence[str | int], data: Any, kind: str) -> Place:
    """The place of an error in the file: pydantic's location without the names of union members."""
    real: list[str | int] = []
    here = data
    for index, part in enumerate(place):
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        last = index == len(place) - 1
        if inside:
            here = here[part]
            real.append(part)
        elif last and kind in ("missing", *_UNKNOWN):
            real.append(part)
    return tuple(real)


def _message(one: Any, place: Place, data: Any) -> tuple[str, str]:
    kind = one["type"]
    key = str(place[-1]) if place else ""
    if kind in _UNKNOWN and has_secret(place[:-1]):
        return "does not name the source of the secret", SOURCE_REMEDY
    if kind in _UNKNOWN:
        if place[0] == "workspaces" and place[-2:] == ("schedule", "copy"):
            return (
                "cannot be of one workspace: a copy is of the whole store",
                "move it to schedule at the top",
            )
        near = difflib.get_close_matches(key, _all_keys(), 1, 0.7)
        return (
            "is not a known key",
            f"did you mean {near[0]}?" if near else "remove it, or see config.example.yaml",
        )
    if kind == "missing":
        return "is missing", "add it; config.example.yaml shows how"
    if kind == "union_tag_not_found":
        return "has no kind", "add one of the kinds that config.example.yaml shows"
    if kind in ("union_tag_invalid", "literal_error", "enum"):
        expected = str(one.get("ctx", {}).get("expected_tags") or one.get("ctx", {}).get("expected", ""))
        # The value is not repeated: it may be a secret in the wrong place.
        value = functools.reduce(lambda inside, part: inside[part], place, data)
        near = difflib.get_close_matches(str(value), re.findall(r"'([^']*)'", expected), 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else f"use one of {expected}"
        return "is not one of the known values", remedy
    if kind in ("tuple_type", "list_type"):
        return "should be a list", "write [ … ] around it, or one `- …` a line; config.example.yaml shows how"
    message = str(one["msg"]).removeprefix("Value error, ")
    if is_secret(place):
        return "does not name the source of the secret", SOURCE_REMEDY
    return message[:1].lower() + message[1:], "correct it; config.example.yaml shows how"


def _all_keys() -> list[str]:
    fields = (vars(one)["__pydantic_fields__"] for one in _SHAPES)  # of models and dataclasses alike
    return sorted({name for one in fields for name in one})


def show(config: Config) -> str:
    """The configuration in force as YAML; see `in_force`."""
    return str(yaml.safe_dump(in_force(config), sort_keys=False, allow_unicode=True))


def in_force(config: Config) -> dict[str, Any]:
    """The configuration in force as plain values of its file: with defaults, and secrets as their sources."""
    data: dict[str, Any] = _notation(config)
    for name in ("source", "expiries"):
        data.pop(name)
    if not config.credentials:
        data.pop("credentials")
    for one in data["workspaces"]:
        if one["schedule"] is not None:
            one["schedule"].pop("copy")  # which stands at the top only
    return data


def _notation(value: Any) -> Any:
    """A setting as the file has it."""
    if isinstance(value, SecretSource):
        return {value.kind: list(value.value) if isinstance(value.value, tuple) else value.value}
    if isinstance(value, Brake):
        return {"share": f"{value.share * 100:g}%", "at_least": value.at_least}
    if isinstance(value, Retention):
        rules = {**vars(value.policy), "keep_gone": value.keep_gone, "pipeline_logs": value.pipeline_logs}
        return {name: _notation(rule) for name, rule in rules.items() if rule is not None}
    if isinstance(value, tuple):
        return [_notation(item) for item in value]
    if isinstance(value, Cron | Every | After | Address) or not hasattr(value, "__dataclass_fields__"):
        return _scalar(value)
    kind = {"kind": value.kind} if hasattr(value, "kind") else {}
    return {**kind, **{name: _notation(getattr(value, name)) for name in value.__dataclass_fields__}}


def _scalar(value: Any) -> Any:
    if isinstance(value, Cron | Every | After | Address):
        return value.text
    if isinstance(value, timedelta):
        return duration_text(value) if value else "none"
    if isinstance(value, Path | ByteSize | StrEnum | IpNetwork):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value
