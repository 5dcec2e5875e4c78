"""What clients of HTTP APIs have in common: endpoints, and answers that are failures."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import BinaryIO
from urllib.parse import quote

from mirror.errors import MirrorError, TryLater


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of an API. `path` fills the `{names}` of `template`, percent-encoded; `name` is for
    messages."""

    name: str
    template: str

    def path(self, **parts: str | int) -> str:
        """The path below the API's root, every part encoded (`{uuid}` becomes `%7Buuid%7D`). Raises
        RequestFailed where a part is no Unicode text."""
        try:
            quoted = {name: quote(str(part), safe="") for name, part in parts.items()}
        except UnicodeEncodeError:
            text = f"{self.name}: a name that no address can have"
            raise RequestFailed(text, endpoint=self.name) from None
        return self.template.format(**quoted)


@dataclass(frozen=True)
class FilePart:
    """A file in a multipart body: the name of the field, the file's own, and its bytes, from the start."""

    field: str
    name: str
    stream: BinaryIO = dataclass_field(repr=False)


class RequestFailed(MirrorError):
    """A server answered with a failure. `status` is 0 where no status applies; `endpoint` is its name."""

    def __init__(self, message: str, *, status: int = 0, endpoint: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.endpoint = endpoint


class MaybeMade(TryLater):
    """A request that makes something may or may not have been carried out. Look for the thing before it is
    requested again."""
