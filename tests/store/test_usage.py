"""One process knows how much of the rate limit another used; a damaged usage file does no harm."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.model import Use
from mirror.store.writing.request_usage import RequestUsage
from tests.clock import FakeClock

API = Use("token:0123456789abcdef", "api")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path


def journal(root: Path, writer: str, clock: FakeClock) -> RequestUsage:
    return RequestUsage(root, salt="5b0f", writer=writer, clock=clock)


def test_others_know_of_it_to_the_minute(root: Path) -> None:
    clock = FakeClock()
    journal(root, "aa", clock).exchange([Use(API.identity, "api", (0.0, 61.0, 62.0, 3599.0, 3601.0), 90)])
    clock.elapsed += 30
    mine = Use(API.identity, "api", (5.0,))
    [told] = journal(root, "bb", clock).exchange([mine])
    assert sorted(told.made) == [30, 90, 90, 3570]
    assert told.blocked == 60
    [other, hooks] = journal(root, "cc", clock).exchange([Use("user:x", "api"), Use(API.identity, "hooks")])
    assert not other.made and not hooks.made


def test_nobody_is_told_of_oneself(root: Path) -> None:
    one = journal(root, "aa", FakeClock())
    one.exchange([Use(API.identity, "api", (1.0,))])
    assert one.exchange([API]) == [API]


def test_what_is_an_hour_old_goes_and_what_is_to_come_is_not_believed(root: Path) -> None:
    clock = FakeClock()
    journal(root, "aa", clock).exchange([Use(API.identity, "api", (1.0,))])
    early = FakeClock(clock.start - timedelta(hours=3))
    [told] = journal(root, "bb", early).exchange([API])
    assert not told.made
    assert [path.name for path in (root / "cache").iterdir()] == ["requests-aa.json"]
    clock.elapsed += 3600
    [told] = journal(root, "bb", clock).exchange([API])
    assert not told.made
    assert not list((root / "cache").iterdir())


def test_whose_it_is_cannot_be_read_from_it(root: Path) -> None:
    journal(root, "aa", FakeClock()).exchange([Use(API.identity, "api", (1.0,))])
    [path] = (root / "cache").iterdir()
    assert b"0123456789abcdef" not in path.read_bytes()
    assert b"token" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_note_is_nobodys_use(root: Path) -> None:
    """Any byte changed, and any truncation."""
    clock, rng = FakeClock(), random.Random(3)
    journal(root, "aa", clock).exchange([Use(API.identity, "api", (1.0, 70.0), 5)])
    [path] = (root / "cache").iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        assert journal(root, "bb", clock).exchange([API]) == [API], place
        path.write_bytes(whole[:place])
        assert journal(root, "bb", clock).exchange([API]) == [API], place
        assert not path.exists()


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    used = Use(API.identity, "api", (1.0,))
    assert journal(tmp_path / "nowhere", "aa", FakeClock()).exchange([used]) == [API]
