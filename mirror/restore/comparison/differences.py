"""What a comparison finds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mirror.model import Json, JsonObject

_SHOWN_MAX = 60
# The value of a field of this name may be what nobody else should read.
_UNSHOWN = frozenset({"value", "secret", "private_key"})


class How(StrEnum):
    """How a copy differs."""

    DIFFERS = "differs"
    MISSING = "is missing in the copy"
    UNREAD = "is not in the backup of the copy"  # which may have been refused
    MORE = "is in the copy alone"


@dataclass(frozen=True)
class Difference:
    """One difference. `place` is the full name of the repository (or the workspace), `document` a document of
    its snapshot or a mirror, `name` what the thing is called there, `field` its dotted field; None: the whole
    thing. `key` is that of the step of a plan which makes it, without the repository, for what a server may
    refuse. `why` says why it may be; None: nothing says so."""

    place: str
    document: str
    thing: str
    name: str
    how: How
    field: str | None = None
    original: Json = None
    copy: Json = None
    key: str = ""
    why: str | None = None

    @property
    def line(self) -> str:
        """The difference in one line, for people."""
        what = f"{self.thing} {self.name}".strip() + (f": {self.field}" if self.field else "")
        values = ""
        if self.how is How.DIFFERS and self.field is not None:
            word = self.field.rpartition(".")[2]
            values = "" if word in _UNSHOWN else f": {_shown(self.original)}, in the copy {_shown(self.copy)}"
        reason = f" ({self.why})" if self.why else ""
        where = f"{self.place} {self.document}".strip()
        return f"{where}: {what} {self.how}{values}{reason}"

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        hidden = self.field is not None and self.field.rpartition(".")[2] in _UNSHOWN
        data = {**self.__dict__, "how": str(self.how)}
        return {**data, "original": None, "copy": None} if hidden else data


def _shown(value: Json) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


@dataclass
class Comparison:
    """What was compared, and what differs. `found` are the differences that nothing explains, `lost` the
    things that did not come back for a known reason. `known` counts, by thing, field and reason, the fields
    that differ because nobody can set them."""

    documents: int = 0
    things: int = 0
    refs: int = 0
    found: list[Difference] = field(default_factory=list)
    lost: list[Difference] = field(default_factory=list)
    known: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs that could be as it was."""
        return not self.found

    def add(self, difference: Difference) -> None:
        """Note a difference."""
        if difference.why is None:
            self.found.append(difference)
        elif difference.field is None:
            self.lost.append(difference)
        else:
            self.known[difference.thing, difference.field, difference.why] += 1

    def include(self, other: Comparison) -> None:
        """Add what another comparison found."""
        self.documents += other.documents
        self.things += other.things
        self.refs += other.refs
        self.found += other.found
        self.lost += other.lost
        self.known += other.known

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        return {
            "compared": self.counts,
            "differences": [one.to_json() for one in self.found],
            "not_back": [one.to_json() for one in self.lost],
            "cannot_be_set": [
                {"thing": thing, "field": name, "why": why, "count": count}
                for (thing, name, why), count in sorted(self.known.items())
            ],
        }

    @property
    def counts(self) -> Mapping[str, int]:
        """How much was compared."""
        return {"documents": self.documents, "things": self.things, "refs": self.refs}
