"""The types of the configuration's keys: how each text of the file is read, and what the schema shows."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationInfo,
    WrapValidator,
    model_validator,
)

from mirror.auth.secrets import SecretSource
from mirror.config import values
from mirror.config.values import Address, ByteSize, IpNetwork, Trigger

# Scalars are strict: YAML has typed them already. Values of the final type are accepted as well.
RULES = ConfigDict(extra="forbid", hide_input_in_errors=True)
Text = Annotated[StrictStr, Field(min_length=1)]
Url = Annotated[StrictStr, AfterValidator(values.url)]
HooksUrl = Annotated[StrictStr, AfterValidator(values.hooks_url)]
ApiUrl = Annotated[StrictStr, AfterValidator(values.api_url)]
Duration = Annotated[timedelta, BeforeValidator(values.duration, json_schema_input_type=str)]
Jitter = Annotated[timedelta, BeforeValidator(values.jitter, json_schema_input_type=str)]
# How long something is kept: `m`, which other tools read as months, is refused.
KeepFor = Annotated[timedelta, BeforeValidator(values.keep_for, json_schema_input_type=str)]


def _path(value: Any, handler: Any, info: ValidationInfo) -> Path:
    """A path of the file, below the folder that the validation context names; or a Path as it is."""
    return value if isinstance(value, Path) else values.path(handler(value), folder_of(info))


def _secret(value: Any, handler: Any, info: ValidationInfo) -> SecretSource:
    return value if isinstance(value, SecretSource) else handler(value).source(folder_of(info))


def _share(value: object, info: ValidationInfo) -> float:
    """A share as the file has it; from the program itself a fraction of 1."""
    return value if isinstance(value, float) and info.context is None else values.share(value)


def _checked_path(text: str) -> str:
    values.path(text, Path())
    return text


def some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """At least one item; `min_length` would also complain of it beside a fault of the only item."""
    if not items:
        raise ValueError("should have at least one item")
    return items


def folder_of(info: ValidationInfo) -> Path:
    """The folder that relative paths are below: the validation context."""
    return info.context if isinstance(info.context, Path) else Path()


class SecretShape(BaseModel):
    """Where a secret is: exactly one of these. The secret itself is never in this file."""

    model_config = RULES

    file: Annotated[Text, AfterValidator(_checked_path)] | None = Field(
        None, description="A file with the secret; not readable by everybody."
    )
    env: Text | None = Field(None, description="An environment variable with the secret.")
    credential: Text | None = Field(
        None, description="A systemd credential (LoadCredential=) with the secret."
    )
    command: Annotated[list[Text], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] | None = (
        Field(None, description="A program, with its arguments, that prints the secret.", min_length=1)
    )

    @model_validator(mode="after")
    def _one(self) -> SecretShape:
        if sum(value is not None for value in (self.file, self.env, self.credential, self.command)) != 1:
            raise ValueError("should name exactly one of file, env, credential and command")
        return self

    def source(self, folder: Path) -> SecretSource:
        """The source of the secret; a relative file is below `folder`."""
        if self.file is not None:
            return SecretSource("file", str(values.path(self.file, folder)))
        if self.env is not None:
            return SecretSource("env", self.env)
        if self.credential is not None:
            return SecretSource("credential", self.credential)
        return SecretSource("command", tuple(self.command or ()))


if TYPE_CHECKING:
    LocalPath = Path
    Secret = SecretSource
    Share = float
    Size = ByteSize
    When = Trigger
    WhenToCopy = Trigger
    Workers = int
    Listen = Address
    Networks = tuple[IpNetwork, ...]
else:
    LocalPath = Annotated[Text, WrapValidator(_path)]
    Secret = Annotated[SecretShape, WrapValidator(_secret)]
    Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=str)]
    Size = Annotated[Any, BeforeValidator(values.byte_size, json_schema_input_type=str)]
    When = Annotated[Any, BeforeValidator(values.trigger, json_schema_input_type=str)]
    WhenToCopy = Annotated[Any, BeforeValidator(values.trigger_of_copy, json_schema_input_type=str)]
    Listen = Annotated[Any, BeforeValidator(values.address, json_schema_input_type=str)]
    Networks = Annotated[Any, BeforeValidator(values.networks, json_schema_input_type=list[str])]
    Workers = Annotated[
        StrictInt,
        Field(ge=1, le=64),
        BeforeValidator(
            lambda v: cores() if v is None else v,
            json_schema_input_type=Annotated[int, Field(ge=1, le=64)] | None,
        ),
    ]


def cores() -> int:
    """How many git workers run where the file does not say: one for each core, between two and eight."""
    return max(2, min(8, len(os.sched_getaffinity(0))))
