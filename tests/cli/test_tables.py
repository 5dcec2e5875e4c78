"""Tables and lines fit the terminal, whatever stands in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mirror.cli.terminal.cells import padded, shortened, width_of, wrapped
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.table import GAP, Column, Fit, fitting, lines_of, natural
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.cli.on_terminal import on_terminal, too_wide
from tests.e2e.helpers import mirror, write_config

ID, HASH = "20261123T020000Z", "0123456789abcdef0123456789abcdef01234567"
COLUMNS = (
    Column("NAME", Fit.SHORTEN), Column("ID"), Column("TIME", drop=1), Column("SIZE", drop=2, is_number=True),
    Column("WHY", Fit.WRAP),
)  # fmt: skip
ROWS = [
    ("acme/website", ID, "2026-11-23T02:00:00Z", "12.0 MiB", "issues (denied), pull requests (partial)"),
    ("acme/" + "a-very-long-name-" * 5 + "end", ID, "never", "0 B", "-"),
    ("acme/漢字の倉庫とても長い名前の倉庫とても長い名前", ID, "never", "7 B", "漢字" * 30),
    ("acme/e\u0301" + "e\u0301" * 40, ID, "never", "7 B", "👍🏽 " * 20 + "🇩🇪"),
]
HOSTILE = "acme/\x1b[31mred\n20261123T020000Z  complete\u202egnol\u200b"


def shown(width: int) -> list[str]:
    layout = fitting(COLUMNS, ROWS, width)
    assert layout is not None
    headings = [one.heading for one in COLUMNS]
    return ["".join(line).rstrip() for row in [headings, *ROWS] for line in lines_of(COLUMNS, row, layout)]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_and_keeps_every_id_whole(width: int) -> None:
    lines = shown(width)
    assert not [line for line in lines if cell_len(line) > width]
    assert sum(ID in line for line in lines) == len(ROWS)


def test_columns_go_in_their_order_and_come_back_with_the_room() -> None:
    assert [name for name in ("TIME", "SIZE") if name in shown(60)[0]] == []
    assert [name for name in ("TIME", "SIZE") if name in shown(90)[0]] == ["TIME"]
    assert [name for name in ("TIME", "SIZE") if name in shown(200)[0]] == ["TIME", "SIZE"]


def test_columns_stand_below_each_other_with_wide_signs_too() -> None:
    lines = [line for line in shown(200) if ID in line or "NAME" in line]
    places = {cell_len(line[: line.index("ID" if "NAME" in line else ID)]) for line in lines}
    assert len(places) == 1


def test_of_a_long_name_both_ends_stay() -> None:
    assert shortened("acme/website-of-the-north-2", 15) == "acme/we…north-2"
    assert shortened("漢字漢字漢字", 7) == "漢…字" or cell_len(shortened("漢字漢字漢字", 7)) <= 7
    assert shortened("acme/x", 15) == "acme/x"


def test_a_terminal_that_is_too_narrow_for_the_ids_has_no_table() -> None:
    assert fitting(COLUMNS, ROWS, 20) is None


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co")), max_size=60)


@given(TEXTS, st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_measured_as_the_terminal_does(text: str, width: int) -> None:
    short = shortened(text, width)
    assert cell_len(short) <= max(width, 1)
    assert short == text or "…" in short
    # A mark is never parted from the sign that it belongs to.
    tail = short.partition("…")[2]
    assert short == text or not tail or not unicodedata.combining(tail[0])
    lines = wrapped(text, max(width, 2))
    assert all(cell_len(line) <= max(width, 2) for line in lines)
    assert "".join("".join(lines).split(" ")) == "".join(text.split(" "))


def run_hostile_table() -> int:
    """Run on a terminal: print a table as a command does."""
    out = Output(as_json=False, no_colour=True)
    out.table(COLUMNS, [(HOSTILE, ID, "never", "7 B", "why\nnot"), *ROWS])
    out.line(f"  {HOSTILE}: {'a reason ' * 20}{HASH}")
    out.flush()
    return 0


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_a_hostile_name_makes_no_line_of_its_own(columns: int) -> None:
    lines = on_terminal(columns=columns, program="tests.cli.test_tables:run_hostile_table")
    assert not too_wide(lines, columns), lines
    assert not [sign for line in lines for sign in line if not sign.isprintable()]
    assert not [line for line in lines if line.startswith(ID)]
    assert sum(HASH in line for line in lines) == 1


def test_nothing_is_cut_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False, no_colour=True).table(COLUMNS, ROWS, indent=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert line.startswith("  ") and all(cell.strip() in line for cell in row)


def test_layouts_have_no_gaps() -> None:
    layout = natural(COLUMNS, ROWS)
    assert sum(layout.widths) + GAP * (len(COLUMNS) - 1) == max(
        width_of("".join(line)) for line in lines_of(COLUMNS, ROWS[2], layout)
    )
    assert padded("7", 3, is_number=True) == "  7"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration whose store holds the sample workspace, with its simulator running."""
    folder = tmp_path_factory.mktemp("tables")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = write_config(folder, simulator, token, more="retention: {keep_last: 3}\n")
        assert mirror("backup", "-c", str(config)).returncode == 0
        yield config


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("snapshots", "acme/website"),
        ("backup",),
        ("verify",),
        ("prune", "--dry-run"),
        ("doctor",),
        ("config", "check"),
        ("drill", "acme/website"),
        ("restore", "acme/website", "--to", "bitbucket:acme", "--dry-run"),
        ("diff", "acme/website", "latest", "upstream"),
    ],
    ids=lambda words: words[0],
)
def test_what_a_command_prints_fits_60_columns(store: Path, words: tuple[str, ...]) -> None:
    lines = on_terminal(*words, "-c", str(store), columns=60)
    assert lines and not too_wide(lines, 60), lines


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_table_of_a_command_shows_what_there_is_room_for(store: Path, columns: int) -> None:
    lines = on_terminal("status", "-c", str(store), columns=columns)
    [heading] = [line for line in lines if line.startswith("REPOSITORY")]
    assert ("LAST CONFIRMED" in heading) is (columns >= 80)
    assert sum(line.startswith("acme/") for line in lines) >= 4
    assert not too_wide(lines, columns)
