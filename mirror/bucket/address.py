"""Where a copy stands: `s3://bucket/prefix`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.errors import UsageError

# By scheme, what people call it.
SCHEMES = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
_ADDRESS = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,221})(?:/(.*))?", re.DOTALL)
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()=~-]+(/[A-Za-z0-9!_.*'()=~-]+)*")


def is_address(text: str) -> bool:
    """Whether `text` means object storage rather than a folder."""
    return "://" in text and text.partition("://")[0].lower() in SCHEMES


@dataclass(frozen=True)
class Address:
    """A bucket (of Azure: a container) and the prefix of all keys, without slashes around it."""

    scheme: str
    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that `text` means. Raises UsageError."""
        found = _ADDRESS.fullmatch(text)
        prefix = (found[3] or "").strip("/") if found else ""
        parts = prefix.split("/")
        if found is None or (prefix and not _PREFIX.fullmatch(prefix)) or {".", ".."} & set(parts):
            raise UsageError(
                f"{text!r} is not the address of a copy",
                hint="write it as s3://bucket/prefix (gs:// for Google Cloud Storage, az:// for Azure);"
                " no user or password belongs in it",
            )
        return cls(found[1], found[2], prefix)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")
