"""The typed state gives `state.json` back byte for byte: of stores of earlier versions, of the simulator's
world, and with keys and values that this version does not know."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.collect import state as state_module
from mirror.collect.ranges import format_ranges, parse_ranges
from mirror.collect.state import ListedState, NumberSets, Section, State
from mirror.model import Json, JsonObject, dumps
from tests.place import Place

KEPT = sorted((Path(__file__).parents[1] / "stores").glob("*.tar.gz"))
PARTS = ("pull_requests", "issues", "pipelines", "pipeline_logs", "commit_comments")
SECTIONS = [
    kind for kind in vars(state_module).values()
    if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section
]  # fmt: skip


def through(data: JsonObject) -> JsonObject:
    """`data`, after every section and every set of numbers that it has was looked at."""
    found = State(data)
    for key in data.keys() & {"settings", "snippet_mirrors", "lfs", "wiki"}:
        getattr(found, key)
    for part in data.keys() & set(PARTS):
        section = found.listed(part)
        if isinstance(data[part], dict) and "numbers" in data[part]:
            assert isinstance(section.numbers, NumberSets)
    return found.to_json()


def states_of(store: Path) -> Iterator[JsonObject]:
    for path in store.rglob("state.json"):
        data = json.loads(path.read_text())
        yield data["state"]


@pytest.mark.parametrize("archive", KEPT, ids=lambda path: path.name)
def test_the_state_of_kept_stores_survives(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as stream:
        stream.extractall(tmp_path, filter="data")
    several = list(states_of(tmp_path))
    assert several
    for data in several:
        assert dumps(through(data)) == dumps(data)


async def test_the_state_of_a_run_survives_and_every_key_of_it_is_known(place: Place) -> None:
    await place.run()
    for data in states_of(place.config.store):
        assert dumps(through(data)) == dumps(data)
        found = State(data)
        for part in data.keys() & set(PARTS):
            assert found.listed(part).unknown.keys() <= {"numbers"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def keys_of(section: type[Section]) -> list[str]:
    return [section.KEYS.get(one.name, one.name) for one in fields(section) if one.init]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
@given(data=st.data())
def test_a_section_gives_back_whatever_it_was_read_from(section: type[Section], data: st.DataObject) -> None:
    names = st.sampled_from(keys_of(section)) | st.text(max_size=5)
    content: dict[str, Json] = data.draw(st.dictionaries(names, VALUES, max_size=6))
    assert section.from_json(content).to_json() == content


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_has_a_type_that_json_has(section: type[Section]) -> None:
    for one in fields(section):
        if one.init and one.name != "unknown":
            [hint] = [kind for kind in get_args(get_type_hints(section)[one.name]) if kind is not type(None)]
            kind = get_origin(hint) or hint
            assert kind in (str, int, bool, list, dict) or issubclass(kind, Section)


def test_a_section_that_was_only_looked_at_has_no_numbers() -> None:
    found = State({})
    assert isinstance(found.listed("pipelines"), ListedState)
    assert found.to_json() == {"pipelines": {}}
    assert found.pipelines.numbers.held == set()
    assert found.to_json() == {"pipelines": {"numbers": {}}}


@given(st.sets(st.integers(min_value=0, max_value=60)))
def test_ranges_give_back_the_numbers(numbers: set[int]) -> None:
    assert parse_ranges(format_ranges(numbers)) == numbers
