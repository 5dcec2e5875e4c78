"""What a request that succeeded gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.auth.signin import SignIn
from mirror.bitbucket.failures import BadAnswer
from mirror.model import Json, JsonObject


@dataclass(frozen=True)
class Answer:
    """One response: its JSON, its headers (lower-case names), its URL, and the sign-in that requested it."""

    data: Json
    headers: Mapping[str, str] = field(repr=False)
    url: str = ""
    sign_in: SignIn | None = field(default=None, repr=False, compare=False)

    def object(self, what: str) -> JsonObject:
        """The JSON as an object. Raises BadAnswer for anything else and for an empty object: no resource is
        empty, and it must not replace a stored document."""
        if not isinstance(self.data, dict):
            raise BadAnswer(f"{what}: the answer is not an object", endpoint=what)
        if not self.data:
            raise BadAnswer(f"{what}: the answer is an empty object", endpoint=what)
        if self.data.get("type") == "error":
            raise BadAnswer(f"{what}: the answer is an error, although its status is 200", endpoint=what)
        return self.data
