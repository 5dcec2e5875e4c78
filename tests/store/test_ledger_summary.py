"""The summary of a ledger says what the ledger says, or nothing at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.git.refs import packed_tag_names
from mirror.model import Part, PartState, Snapshot, snapshot_id
from mirror.store.format import layout
from mirror.store.format.ledger import Ledger, LedgerEntry, Removal, read_ledger, read_summary
from mirror.store.format.seal import sealed

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = '"id": "20260101T000000Z",\n      "let_go": null \u202e \\'


def ledger(*, removed: tuple[int, ...] = (), incomplete: tuple[int, ...] = ()) -> Ledger:
    """Six snapshots, some of which were removed or are incomplete."""
    entries = []
    for number in range(1, 7):
        when = BEGAN + timedelta(days=number)
        removal = Removal(when, "20260101t000000z-abcdef", "retention") if number in removed else None
        entries.append(
            LedgerEntry(
                snapshot_id(when), number, when, f"{number:040x}", None, number not in incomplete,
                when if number % 2 else None, removal,
            )
        )  # fmt: skip
    last = entries[-1]
    parts = {"code": Part(PartState.PARTIAL, {"refs": 3}, reason=HOSTILE)}
    latest = Snapshot(last.id, last.time, 6, "test", "{u}", "acme/web", parts, last.tree)
    return Ledger(tuple(entries), 1, latest)


def write(root: Path, one: Ledger) -> Path:
    path = root / "place" / layout.LEDGER_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sealed(one.to_json()))
    return path


@pytest.mark.parametrize(
    ("removed", "incomplete"), [((), ()), ((1, 3), ()), ((2,), (5, 6)), ((), (1, 2, 3, 4, 5, 6))]
)
def test_it_says_what_the_ledger_says(
    tmp_path: Path, removed: tuple[int, ...], incomplete: tuple[int, ...]
) -> None:
    write(tmp_path, ledger(removed=removed, incomplete=incomplete))
    whole, short = read_ledger(tmp_path, "place"), read_summary(tmp_path, "place")
    assert whole is not None and short is not None
    assert short.latest == whole.latest
    assert short.kept == whole.kept.keys()
    complete = [one.id for one in whole.kept.values() if one.complete]
    assert short.complete == (complete[-1] if complete else None)


def test_no_changed_byte_gets_past_the_seal(tmp_path: Path) -> None:
    path = write(tmp_path, ledger())
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read_summary(tmp_path, "place") is None, place
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert read_summary(tmp_path, "place") is None


def test_it_leaves_other_forms_to_the_ledger(tmp_path: Path) -> None:
    assert read_summary(tmp_path, "place") is None
    path = write(tmp_path, replace(ledger(), snapshots=()))
    assert read_summary(tmp_path, "place") is None
    path.write_bytes(sealed({**ledger().to_json(), "a key that sorts first": 1}))
    assert read_summary(tmp_path, "place") is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"# pack-refs with: sorted \n" + b"a" * 40 + b" refs/tags/one\n^" + b"b" * 40 + b"\n", {"one"}),
        (
            b"a" * 40 + b" refs/heads/main\n" + b"a" * 40 + b" refs/tags/x\n" + b"a" * 40 + b" refs/to\n",
            {"x"},
        ),
        (b"a" * 40 + b" refs/tags/one", None),
        (b"a" * 40 + b" refs/tags/one\nnonsense\n", None),
        (b"a" * 39 + b" refs/tags/one\n", None),
    ],
)
def test_tags_are_named_or_the_file_is_parsed(tmp_path: Path, text: bytes, names: set[str] | None) -> None:
    (tmp_path / "packed-refs").write_bytes(text)
    assert packed_tag_names(tmp_path) == names
    loose = tmp_path / "refs" / "tags" / "loose"
    loose.parent.mkdir(parents=True)
    loose.write_text("c" * 40)
    assert packed_tag_names(tmp_path) is None
