"""The section `copies`: where the store's twins in object storage are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StrictStr, model_validator
from pydantic.dataclasses import dataclass as section

from mirror.bucket.address import Address
from mirror.config.types import RULES, KeepFor, Secret, Size, Url, some
from mirror.errors import UsageError

# Recipients of age: its own keys (bech32), and those of ssh that it takes.
_AGE = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_SSH = re.compile(r"(ssh-ed25519|ssh-rsa) [A-Za-z0-9+/]{40,}={0,2}( [^\n]*)?")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_address(text: str) -> str:
    """The address of a copy, such as `s3://bucket/prefix`, as it is written."""
    try:
        return str(Address.parse(text))
    except UsageError:
        raise ValueError(
            "should be an address such as s3://bucket/prefix (or gs://…, az://…), without a user name or key"
        ) from None


def check_recipient(text: str) -> str:
    """A public key of age (`age1…`), or of ssh (`ssh-ed25519 …`, `ssh-rsa …`)."""
    if text.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("is a secret key: it must not be on this machine; give the public one, age1…")
    if not _AGE.fullmatch(text) and not _SSH.fullmatch(text):
        raise ValueError("should be a public key: age1… of 62 characters, or ssh-ed25519 … or ssh-rsa …")
    return text


def check_region(text: str) -> str:
    """The name of a provider's region."""
    if not _REGION.fullmatch(text):
        raise ValueError("should be the name of a region such as eu-central-1")
    return text


Recipient = Annotated[StrictStr, AfterValidator(check_recipient)]


@section(frozen=True, config=RULES)
class CopyConfig:
    """A copy of the store in object storage; needs the extra `copy`."""

    to: Annotated[StrictStr, AfterValidator(check_address)] = Field(
        description="Where it is: s3://bucket/prefix; gs:// for Google Cloud Storage, az:// for Azure.",
        examples=["s3://acme-backup/mirror"],
    )
    endpoint: Url | None = Field(
        default=None,
        description="The URL of an S3-compatible server, without the bucket. Left out: the provider's own.",
        examples=["https://s3.example.org"],
    )
    region: Annotated[StrictStr, AfterValidator(check_region)] | None = Field(
        default=None,
        description="The region of the bucket. Left out: as AWS_REGION says, else us-east-1.",
        examples=["eu-central-1"],
    )
    access_key_id: Secret | None = Field(
        default=None,
        description="The access key; of Azure the account. Left out: the provider's usual chain, such as "
        "AWS_ACCESS_KEY_ID and the roles of machines.",
    )
    secret_access_key: Secret | None = Field(
        default=None,
        description="The secret of the access key; of Azure the account's key, of Google the JSON key of a "
        "service account.",
    )
    recipients: Annotated[tuple[Recipient, ...], AfterValidator(some)] | None = Field(
        default=None,
        description="Public keys of age or ssh, to which all is encrypted. Left out: it is not encrypted.",
        examples=[["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]],
        json_schema_extra={"minItems": 1},
    )
    names_key: Secret | None = Field(
        default=None,
        description="A secret of at least 32 characters that hides the names of what is encrypted.",
    )
    protect: KeepFor | None = Field(
        default=None,
        description="How long Object Lock protects what is in use, always renewed; needs the extra `lock`. "
        "Left out: as the bucket does by itself.",
        examples=["90d"],
    )
    bandwidth: Size | None = Field(
        default=None,
        description="At most so much is sent each second. Left out: as much as goes.",
        examples=["10MiB"],
    )

    @model_validator(mode="after")
    def _whole(self) -> CopyConfig:
        if self.recipients is not None and self.names_key is None:
            raise ValueError("should have names_key where it has recipients")
        if self.names_key is not None and self.recipients is None:
            raise ValueError("should have names_key only where it has recipients")
        return self

    @model_validator(mode="after")
    def _keys_together(self) -> CopyConfig:
        scheme = self.address.scheme
        if scheme == "gs":
            if self.access_key_id is not None:
                raise ValueError("should have no access_key_id: Google's key is secret_access_key alone")
        elif (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("should have access_key_id and secret_access_key together, or neither")
        if self.protect is not None and scheme != "s3":
            raise ValueError("should have protect only for s3://: the others have no Object Lock")
        return self

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address.parse(self.to)


def overlaps(copies: Sequence[CopyConfig]) -> Iterator[tuple[int, str]]:
    """The index of each copy that stands where an earlier one does, or inside or around it, and what is
    wrong."""
    for index, one in enumerate(copies):
        for before, other in enumerate(copies[:index]):
            if one.to == other.to:
                yield index, f"is the same address as copies[{before}]"
            elif f"{one.to}/".startswith(f"{other.to}/"):
                yield index, f"is inside copies[{before}]"
            elif f"{other.to}/".startswith(f"{one.to}/"):
                yield index, f"contains copies[{before}]"
