"""The journal survives a kill at any byte, believes no damaged line, and lets one restore in at a time."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mirror.errors import Locked, UsageError
from mirror.restore.carry.journal import Is, Journal, JournalDamaged, alone, state_folder

OURS = {"target": "{1}", "source": "{2}", "snapshot": "20261123T020000Z"}


def _written(path: Path) -> Journal:
    journal = Journal(path, OURS)
    journal.note("web/repository", Is.SENDING, 1.0)
    journal.note("web/repository", Is.MADE, 2.0, {"uuid": "{3}"})
    journal.note("web/hook/a", Is.SENDING, 3.0)
    journal.note("web/hook/b", Is.CHANGING, 4.0)
    return journal


def test_it_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert not path.exists() and Journal(path, OURS).steps == []
    _written(path)
    again = Journal(path, OURS)
    made, sent = again.noted("web/repository"), again.noted("web/hook/a")
    assert made is not None and made.state is Is.MADE and made.answer == {"uuid": "{3}"}
    assert sent is not None and sent.state is Is.SENDING and sent.at == 3.0
    # What was only being changed was there before: it is met like anything else.
    assert again.noted("web/hook/b") is None and again.steps == ["web/repository", "web/hook/a"]
    again.note("web/hook/a", Is.OPEN, 5.0)
    assert Journal(path, OURS).noted("web/hook/a") is None
    again.remove()
    assert not path.exists()


def test_a_torn_last_line_was_never_acted_upon(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _written(path)
    whole = path.read_bytes()
    before: list[str] = []
    for length in [*range(0, len(whole), 7), len(whole)]:
        path.write_bytes(whole[:length])
        known = Journal(path, OURS)
        assert known.steps[: len(before)] == before, "more bytes, and less is known"
        before = known.steps
        known.note("web/hook/c", Is.SENDING, 6.0)
        assert Journal(path, OURS).steps == [*before, "web/hook/c"]
    assert before == ["web/repository", "web/hook/a"]


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_damaged_line_is_refused_with_its_remedy(tmp_path: Path, line: int) -> None:
    path = tmp_path / "a.jsonl"
    _written(path)
    lines = path.read_bytes().split(b"\n")
    lines[line] = lines[line][:-3] + b"0" + lines[line][-2:]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(JournalDamaged, match=f"line {line + 1}") as caught:
        Journal(path, OURS)
    assert caught.value.hint is not None and "remove the file" in caught.value.hint


def test_it_belongs_to_one_restore(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _written(path)
    with pytest.raises(JournalDamaged, match="belongs to another restore"):
        Journal(path, {**OURS, "target": "{9}"})


def test_one_restore_at_a_time(tmp_path: Path) -> None:
    another = alone(tmp_path, "a restore into acme")
    with alone(tmp_path, "a restore into acme"), pytest.raises(Locked, match="into acme is running"):
        another.__enter__()
    with alone(tmp_path, "a restore into acme"):
        pass


def test_where_journals_are() -> None:
    home = {"HOME": "/home/ann"}
    assert state_folder(home) == Path("/home/ann/.local/state/mirror/restores")
    assert state_folder({**home, "XDG_STATE_HOME": "/s"}) == Path("/s/mirror/restores")
    assert state_folder({**home, "STATE_DIRECTORY": "/var/lib/mirror:/x"}) == Path("/var/lib/mirror/restores")
    with pytest.raises(UsageError, match="no place for the journal"):
        state_folder({})


def test_what_another_version_wrote_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    monkeypatch.setattr("mirror.restore.carry.journal.VERSION", 2)
    _written(path)
    monkeypatch.undo()
    with pytest.raises(JournalDamaged, match="another version of this program wrote it") as caught:
        Journal(path, OURS)
    assert "damaged" not in caught.value.message


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_stream: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.jsonl"
    journal = _written(path)
    with monkeypatch.context() as patch:
        patch.setattr("mirror.restore.carry.journal.sync_stream", full)
        with pytest.raises(OSError, match="No space left") as caught:
            journal.note("web/hook/a", Is.MADE, 5.0)
    assert caught.value.filename == str(path)
