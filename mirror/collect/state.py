"""What collecting remembers from run to run: `state.json`, with one section for each part.

A field that is None has no key in the file. A key that a section does not know, or whose value is of
another type, is written back as it was read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from mirror.collect.ranges import format_ranges, parse_ranges
from mirror.model import Json, JsonObject

_FIELDS: dict[type[Section], tuple[_Stored, ...]] = {}


@dataclass(frozen=True)
class _Stored:
    """How a field of a section is stored: its key, its JSON type, and the section that its value is. With
    `is_table` the value is an object whose values are such sections."""

    name: str
    key: str
    kind: type
    section: type[Section] | None
    is_table: bool

    def read(self, value: Json) -> Any:
        """The field's value of what stands in the file; None where that is of another type."""
        found: Any = value if isinstance(value, self.kind) else None
        if self.section is None or found is None:
            return found
        if not self.is_table:
            return self.section.from_json(found)
        if not all(isinstance(entry, dict) for entry in found.values()):
            return None
        return {name: self.section.from_json(entry) for name, entry in found.items()}

    def write(self, value: Any) -> Json:
        """What stands in the file for the field's value."""
        if self.section is None:
            return value
        return {name: one.to_json() for name, one in value.items()} if self.is_table else value.to_json()


def _fields_of(section: type[Section]) -> tuple[_Stored, ...]:
    """The stored fields of a section, from its annotations (`str | None`, `dict[str, AskedPlace] | None`)."""
    known = _FIELDS.get(section)
    if known is not None:
        return known
    hints = get_type_hints(section)
    found = []
    for one in fields(section):
        if one.name == "unknown" or not one.init:
            continue
        [hint] = [kind for kind in get_args(hints[one.name]) if kind is not NoneType]
        kind = get_origin(hint) or hint
        value = get_args(hint)[-1] if kind is dict else hint
        nested = value if isinstance(value, type) and issubclass(value, Section) else None
        key = section.KEYS.get(one.name, one.name)
        found.append(_Stored(one.name, key, dict if nested else kind, nested, kind is dict))
    _FIELDS[section] = tuple(found)
    return _FIELDS[section]


@dataclass
class Section:
    """A JSON object of the file. `KEYS`: by field its key, where that is not the field's name."""

    KEYS: ClassVar[Mapping[str, str]] = {}
    unknown: JsonObject = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_json(cls, data: JsonObject) -> Self:
        """The section that `data` holds. The section keeps the values of `data`, and not `data`."""
        found = cls(unknown=dict(data))
        for one in _fields_of(cls):
            value = one.read(data.get(one.key))
            if value is not None:
                setattr(found, one.name, value)
                del found.unknown[one.key]
        return found

    def to_json(self) -> JsonObject:
        """The section as the file holds it."""
        values = ((one, getattr(self, one.name)) for one in _fields_of(type(self)))
        return {**self.unknown, **{one.key: one.write(value) for one, value in values if value is not None}}

    def clear(self) -> None:
        """Forget everything."""
        self.unknown.clear()
        for one in _fields_of(type(self)):
            setattr(self, one.name, None)


# -- lists


# By attribute of NumberSets: its key.
_NUMBER_KEYS = {
    "held": "held", "open": "open", "gone": "gone", "moved": "moved", "judged": "listed",
    "unpinned": "lacking", "headless": "headless", "patched": "patched",
}  # fmt: skip


@dataclass
class NumberSets:
    """Numbers of a part's pull requests, issues or pipelines.

    `held`: a document is held. `open`: it is open, or still runs. `gone`: the list has it no more.
    Of pull requests, `moved`: updated since the activity was read; `judged`: the document was compared
    with its head, and is not opened again until that moves; `unpinned`: the mirror lacks the head;
    `headless`: the list gives no head; `patched`: the document has the patch.
    `to_ask`: by child, what is still to be asked for.
    """

    held: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)
    judged: set[int] = field(default_factory=set)
    unpinned: set[int] = field(default_factory=set)
    headless: set[int] = field(default_factory=set)
    patched: set[int] = field(default_factory=set)
    to_ask: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def from_json(cls, data: JsonObject) -> NumberSets:
        """Raises ValueError where a value is no text of ranges."""
        found = cls()
        attributes = {key: attribute for attribute, key in _NUMBER_KEYS.items()}
        for key, text in data.items():
            if key in attributes:
                setattr(found, attributes[key], parse_ranges(text))
            else:
                found.to_ask[key] = parse_ranges(text)
        return found

    def _named(self) -> Iterator[tuple[str, set[int]]]:
        yield from ((key, getattr(self, attribute)) for attribute, key in _NUMBER_KEYS.items())
        yield from self.to_ask.items()

    def to_json(self) -> JsonObject:
        """The sets that have any number, as ranges."""
        return {key: format_ranges(numbers) for key, numbers in sorted(self._named()) if numbers}

    def forget(self, number: int) -> None:
        """Remove a number from every set."""
        for _, numbers in self._named():
            numbers.discard(number)


@dataclass
class ListingProgress(Section):
    """How far a list was read; see `ResumableListing`. `seen` is a text of ranges."""

    key: str | None = None
    next: str | None = None
    number: int | None = None
    got: int | None = None
    seen: str | None = None
    memory: JsonObject | None = None


@dataclass
class ListedState(Section):
    """A part that is read from a list. `left_out`: entries that cannot be kept, and why; by number, or
    by what is wrong with one that has no number."""

    left_out: JsonObject | None = None
    walk: ListingProgress | None = None
    _numbers: NumberSets | None = field(default=None, init=False, repr=False)

    @property
    def numbers(self) -> NumberSets:
        """The numbers of the part's things. Raises ValueError where the file has something else."""
        if self._numbers is None:
            saved = self.unknown.get("numbers")
            self._numbers = NumberSets.from_json(saved if isinstance(saved, dict) else {})
        return self._numbers

    @property
    def has_nameless(self) -> bool:
        """Whether an entry without a number was left out: it may be any of those that do not come."""
        return not all(what.isdigit() for what in self.left_out or {})

    def to_json(self) -> JsonObject:
        data = super().to_json()
        if self._numbers is not None:
            data["numbers"] = self._numbers.to_json()
        return data


@dataclass
class NumberedState(ListedState):
    """Pull requests or issues. `recent`: the fingerprints of those that the overlap of the next listing
    gives once more, by number."""

    cursor: str | None = None
    swept: str | None = None
    recent: JsonObject | None = None


@dataclass
class ActivityState(Section):
    """The activity of all pull requests. `begun`: set until the list was read to its end."""

    begun: str | None = None
    asked: str | None = None
    refused: str | None = None
    walk: ListingProgress | None = None


@dataclass
class AskedPlace(Section):
    """A place that was asked for heads of pull requests. `lacks`: the heads it does not have, by number;
    `trouble`: when it could not be reached."""

    at: str | None = None
    refused: bool | None = None
    lacks: JsonObject | None = None
    trouble: str | None = None


@dataclass
class PullRequestsState(NumberedState):
    """`heads` and `forks`: the heads that are not known to be pinned and the forks that they are in, by
    number; `asked`: by name of the place. `heads_counted`: a sweep has looked at every pull request."""

    KEYS: ClassVar[Mapping[str, str]] = {"activity": "feed"}
    activity: ActivityState | None = None
    activity_to: str | None = None
    heads: JsonObject | None = None
    forks: JsonObject | None = None
    asked: dict[str, AskedPlace] | None = None
    heads_counted: bool | None = None


@dataclass
class AbsentPart(Section):
    """A part that upstream does not have: when it was asked for last, and what snapshots say of it."""

    asked: str | None = None
    part: JsonObject | None = None


@dataclass
class IssuesState(NumberedState):
    """`absent` is set while the tracker is off."""

    absent: AbsentPart | None = None


@dataclass
class AscendingEnd(Section):
    """Where a list in ascending order goes on: the next page, its number, and how many entries are before."""

    next: str | None = None
    number: int | None = None
    before: int | None = None


@dataclass
class PipelinesState(ListedState):
    """`done_to`: the highest number of the last listing. `opened`: when open ones were asked for one by
    one. `off`: when pipelines were found to be switched off."""

    done_to: int | None = None
    with_logs: bool | None = None
    ascending: AscendingEnd | None = None
    opened: str | None = None
    off: str | None = None


@dataclass
class CommitsState(ListedState):
    """What is said about commits. `asked`: when each head was asked about. `due`: heads to ask about,
    and whether a branch has each. `queue`: other commits to ask about, once. `walked`: the tips whose
    commits are all in the queue or asked about."""

    asked: JsonObject | None = None
    due: JsonObject | None = None
    queue: JsonObject | None = None
    walked: list[str] | None = None

    def _commits(self, name: str) -> JsonObject:
        """`due` or `queue`; version 0.3 kept them as lists."""
        found: JsonObject | None = getattr(self, name)
        return dict.fromkeys(self.unknown.get(name) or ()) if found is None else found

    def pending(self) -> list[str]:
        """The commits that are to be asked about, heads first."""
        return [*self._commits("due"), *self._commits("queue")]

    def upgrade(self) -> None:
        """Have `due` and `queue` as objects."""
        self.due, self.queue = self._commits("due"), self._commits("queue")


# -- settings, snippets, and what git gives


@dataclass
class KindState(Section):
    """How one kind of setting stands after the last time it was asked for."""

    KEYS: ClassVar[Mapping[str, str]] = {"accepted_as": "agreed_as", "retryable": "is_passing"}
    part: str | None = None
    kind: str | None = None
    state: str | None = None
    scope: str | None = None
    reason: str | None = None
    accepted_as: str | None = None
    retryable: bool | None = None


@dataclass
class SettingsState(Section):
    """The rounds over the settings. `asked`: when the last one ended; `done`: the kinds that the one under
    way has asked for. Version 0.3 kept `parts` instead of `kinds`."""

    asked: str | None = None
    done: list[str] | None = None
    kinds: dict[str, KindState] | None = None
    parts: JsonObject | None = None


@dataclass
class SnippetMirrorsState(Section):
    """Git repositories of snippets. `due`: those to fetch; `fetched`: the version of each at its last fetch;
    `absent`: those that git does not give; `unsure`: since when git refuses one that is held."""

    due: list[str] | None = None
    fetched: JsonObject | None = None
    swept: str | None = None
    absent: list[str] | None = None
    unsure: JsonObject | None = None


@dataclass
class LfsState(Section):
    """`retryable`: a later run may get the objects that are missing."""

    KEYS: ClassVar[Mapping[str, str]] = {"retryable": "passing"}
    retryable: bool | None = None


@dataclass
class WikiState(Section):
    """A wiki that is absent: what snapshots say of it, when it was asked for last, since when it is gone,
    and since when the answer is unclear."""

    part: JsonObject | None = None
    asked: str | None = None
    since: str | None = None
    unclear: str | None = None


S = TypeVar("S", bound=Section)
_LISTED: dict[str, type[ListedState]] = {
    "pull_requests": PullRequestsState,
    "issues": IssuesState,
    "pipelines": PipelinesState,
    "commit_comments": CommitsState,
}


class State:
    """The whole of it. A section that was looked at once is written, an empty one too."""

    def __init__(self, data: JsonObject) -> None:
        self._data = dict(data)
        self._sections: dict[str, Section] = {}

    def to_json(self) -> JsonObject:
        """All sections as the file holds them."""
        return {**self._data, **{key: section.to_json() for key, section in self._sections.items()}}

    def _section(self, key: str, kind: type[S]) -> S:
        found = self._sections.get(key)
        if found is None:
            saved = self._data.get(key)
            found = self._sections[key] = kind.from_json(saved if isinstance(saved, dict) else {})
        assert isinstance(found, kind)
        return found

    def listed(self, part: str) -> ListedState:
        """The section of a part that is read from a list."""
        return self._section(part, _LISTED.get(part, ListedState))

    def numbered(self, part: str) -> NumberedState:
        """The section of pull requests or issues."""
        found = self.listed(part)
        assert isinstance(found, NumberedState)
        return found

    @property
    def pull_requests(self) -> PullRequestsState:
        """Pull requests, their activity and their heads."""
        return self._section("pull_requests", PullRequestsState)

    @property
    def issues(self) -> IssuesState:
        """Issues."""
        return self._section("issues", IssuesState)

    @property
    def pipelines(self) -> PipelinesState:
        """Pipelines."""
        return self._section("pipelines", PipelinesState)

    @property
    def commit_comments(self) -> CommitsState:
        """What is said about commits."""
        return self._section("commit_comments", CommitsState)

    @property
    def settings(self) -> SettingsState:
        """Settings and downloads of a repository or workspace."""
        return self._section("settings", SettingsState)

    @property
    def snippet_mirrors(self) -> SnippetMirrorsState:
        """The git repositories of a workspace's snippets."""
        return self._section("snippet_mirrors", SnippetMirrorsState)

    @property
    def lfs(self) -> LfsState:
        """LFS objects."""
        return self._section("lfs", LfsState)

    @property
    def wiki(self) -> WikiState:
        """The wiki."""
        return self._section("wiki", WikiState)

    @property
    def profile(self) -> str | None:
        """The fingerprint of the profile as it was listed last."""
        found = self._data.get("profile")
        return found if isinstance(found, str) else None

    @profile.setter
    def profile(self, fingerprint: str) -> None:
        self._data["profile"] = fingerprint

    @property
    def retired(self) -> dict[str, str]:
        """By endpoint, since when it answers that it is retired (410)."""
        found = self._data.get("retired")
        if not isinstance(found, dict):
            found = self._data["retired"] = {}
        return found

    def forget_retired(self, endpoint: str) -> None:
        """Note that an endpoint answers again."""
        if "retired" in self._data:
            self.retired.pop(endpoint, None)
