"""What a shell offers while somebody types: repositories, snapshots, documents and parts.

The completion scripts call `mirror completion --words KIND CURRENT WORD…`: what is wanted, the word under the
cursor, and the words before it. The parser does not have it: that would cost more than all of this. It reads
only small files of the store (for the paths of documents, one snapshot), asks nobody, and fails silently.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from os.path import expandvars
from pathlib import Path

from mirror.store.reading import names

CALL = ("completion", "--words")
CONFIGURATIONS = ("config.yaml", "/etc/mirror/config.yaml")
# What `restore --only` and `find --in` take.
PARTS = (
    "code", "commit-comments", "downloads", "issues", "metadata", "pull-requests", "settings", "snippets",
    "wiki",
)  # fmt: skip
KINDS = ("pull-requests", "issues", "comments", "files")
# More words are of no use to anybody.
WORDS_MAX = 2000
_STORE = re.compile(
    r"""^store:[ \t]*(?:"([^"\\]*)"|'([^']*)'|([^\s#'"&*!|>][^#\n]*?))[ \t]*(?:#.*)?$""", re.MULTILINE
)


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print what fits, a line each. `words` are those after `--words`. Always 0."""
    kind, current, *typed = [*words, "", ""][: max(len(words), 2)]
    with suppress(Exception):  # a shell would print an error into the command line
        found = OFFERS[kind](_joined(typed), environment, current)
        fitting = [one for one in found if one.startswith(current)]
        sys.stdout.write("".join(f"{one}\n" for one in fitting[:WORDS_MAX] if one.isprintable()))
        sys.stdout.flush()
    return 0


def store_of(typed: Sequence[str], environment: Mapping[str, str]) -> Path | None:
    """The store that a command line is about: `--store`, else what its configuration names; None for none."""
    if named := _value_of(typed, ("--store",)):
        return Path(named).expanduser()
    config = _value_of(typed, ("-c", "--config")) or environment.get("MIRROR_CONFIG")
    path = Path(config).expanduser() if config else None
    if path is None:
        path = next((one for one in map(Path, CONFIGURATIONS) if one.is_file()), None)
    if path is None:
        return None
    found = _STORE.search(path.read_text("utf-8-sig"))
    text = next((one for one in found.groups() if one is not None), "") if found is not None else ""
    return path.absolute().parent / Path(text).expanduser() if text else None


def _joined(typed: Iterable[str]) -> list[str]:
    """The words as the program gets them: without quotes, and what bash splits at `=` in one."""
    found: list[str] = []
    for word in typed:
        with suppress(ValueError):
            word = " ".join(shlex.split(word)) or word
        word = expandvars(word)
        if found and (word == "=" or found[-1].endswith("=")):
            found[-1] += word
        else:
            found.append(word)
    return found


def _value_of(typed: Sequence[str], options: Sequence[str]) -> str:
    """The last value of an option; empty for none."""
    value = ""
    for number, word in enumerate(typed):
        if word in options:
            value = (typed[number + 1] if number + 1 < len(typed) else "") or value
        for option in options:
            if option.startswith("--") and word.startswith(f"{option}="):
                value = word.partition("=")[2]
    return value


def _places(typed: Sequence[str], environment: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    store = store_of(typed, environment)
    return (store, names.places(store)) if store is not None else (Path(), {})


def _selected(typed: Sequence[str], places: Mapping[str, str]) -> str | None:
    """The folder of the repository or workspace that the words name."""
    folders = {place.rpartition("/")[2]: place for place in places.values()}
    found = None
    for word in typed:
        last = word.rpartition("/")[2]
        found = places.get(word.lower()) or (folders.get(last) if "~" in last else None) or found
    return found


def _selectors(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
    del current
    return sorted(_places(typed, environment)[1])


def _workspaces(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
    return [one for one in _selectors(typed, environment, current) if "/" not in one]


def _snapshots(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
    del current
    store, places = _places(typed, environment)
    place = _selected(typed, places)
    return ["latest", *(names.snapshot_ids(store, place) if place is not None else ())]


def _sides(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
    return [*_snapshots(typed, environment, current), "upstream"]


def _documents(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
    """The documents and folders one level below what is typed; `pull-requests/12` in this short form."""
    from mirror.model import Selector
    from mirror.store.reading.reader import Store

    store, places = _places(typed, environment)
    place = _selected(typed, places)
    name = next((one for one, where in places.items() if where == place), None)
    if name is None:
        return []
    with Store.open(store) as opened:
        selector = Selector.parse(name)
        folder = opened.repository(selector) if "/" in name else opened.workspaces([selector])[0]
        snapshot = folder.metadata.at(_value_of(typed, ("--at",)) or "latest").snapshot
        base = current.rpartition("/")[0]
        below = f"{base}/" if base else ""
        found = set()
        for path in folder.metadata.paths(snapshot, base):
            if numbered := re.fullmatch(r"([a-z-]+)/[0-9]+/([0-9]+)\.json", path):
                path = f"{numbered[1]}/{numbered[2]}"
            first, slash, _ = path.removeprefix(below).partition("/")
            found.add(below + first + slash)
        return sorted(found, key=_in_order)


def _in_order(path: str) -> list[str | int]:
    """Sorts numbers by their value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _list_of(values: Iterable[str]) -> Offer:
    def offered(typed: Sequence[str], environment: Mapping[str, str], current: str) -> list[str]:
        del typed, environment
        before, comma, _ = current.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{one}" for one in sorted(values) if one not in taken]

    return offered


Offer = Callable[[Sequence[str], Mapping[str, str], str], list[str]]
OFFERS: Mapping[str, Offer] = {
    "selectors": _selectors,
    "workspaces": _workspaces,
    "snapshots": _snapshots,
    "sides": _sides,
    "documents": _documents,
    "parts": _list_of(PARTS),
    "kinds": _list_of(KINDS),
}
