"""One run with all that its record says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.browse.runs import RunRow, row_of
from mirror.model import JsonObject
from mirror.model.words import label, label_first_word
from mirror.store.reading.reader import Store

# How many entries of one run are listed, and how many findings.
ENTRIES_MOST = 1000
# Outcomes of which there is nothing to say.
_QUIET = ("confirmed", "kept", "excluded")


@dataclass(frozen=True)
class EntryRow:
    """What a run did with one repository or workspace."""

    name: str
    outcome: str
    problems: tuple[str, ...]
    changes: int


@dataclass(frozen=True)
class RunPage:
    """A run. `outcomes` counts its repositories and workspaces; `entries` are those of which there is
    something to say, and `more` how many of these are not listed. `facts` are counts, by label; `findings`
    are those of a verification."""

    row: RunRow
    program: str
    problems: tuple[str, ...]
    outcomes: Mapping[str, int]
    entries: tuple[EntryRow, ...]
    more: int
    facts: Mapping[str, str]
    findings: tuple[str, ...]


def run_page(path: Path, identifier: str) -> RunPage | None:
    """The run of this id; None where there is none. Raises NoStore and StoreDamaged."""
    with Store.open(path) as store:
        if identifier not in store.run_ids():
            return None
        record = store.run(identifier)
        data = record.data
        entries = record.entries()
    told = sorted(filter(_is_told, entries), key=lambda one: (one["outcome"] == "saved", one["full_name"]))
    facts = data.get("facts", {})
    return RunPage(
        row=row_of(record),
        program=str(data.get("program", "")),
        problems=tuple(_told(data.get("problems", []))),
        outcomes=dict(Counter(str(one["outcome"]) for one in entries).most_common()),
        entries=tuple(_entry(one) for one in told[:ENTRIES_MOST]),
        more=max(0, len(told) - ENTRIES_MOST),
        facts=dict(_facts(facts)),
        findings=tuple(_findings(facts.get("findings", []))[:ENTRIES_MOST]),
    )


def _is_told(entry: JsonObject) -> bool:
    return entry["outcome"] not in _QUIET or bool(entry.get("problems"))


def _entry(one: JsonObject) -> EntryRow:
    problems = tuple(_told(one.get("problems", [])))
    # A record counts every change of a ref, and lists those that lost something.
    return EntryRow(str(one["full_name"]), str(one["outcome"]), problems, sum(one.get("refs", {}).values()))


def _told(problems: list[JsonObject]) -> Iterator[str]:
    """Problems with the part that they are of, and what to do."""
    for one in problems:
        part = f"{label(str(one['part']))}: " if one.get("part") else ""
        text = label_first_word(str(one.get("text", "")))
        hint = f" ({one['hint']})" if one.get("hint") else ""
        yield f"{part if not text.startswith(part) else ''}{text}{hint}"


def _facts(facts: JsonObject) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from (
                (f"{label(name)}, {label(inner)}", str(one))
                for inner, one in value.items()
                if isinstance(one, int | float | str)
            )
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            yield label(name), str(value)
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            yield label(name), ", ".join(value[:20])


def _findings(several: list[JsonObject]) -> list[str]:
    return [": ".join(str(value) for value in one.values() if isinstance(value, str)) for one in several]
