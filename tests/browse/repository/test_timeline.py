"""The time line of a repository: its snapshots, kept or let go, and what changed between them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mirror.browse.repository import timeline as lines
from mirror.browse.repository.changes import KnownChanges, changes
from mirror.browse.repository.recent import Recent
from mirror.errors import UsageError
from mirror.git.documents.repository import Documents
from mirror.model import Snapshot
from mirror.store.format import layout
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.writing.writer import RepositoryWriter
from tests.extract.made import Made, blob, commit, flip, tree


async def grow(made: Made, count: int) -> RepositoryFolder:
    """A repository with `count` snapshots, an hour between them, each with a ref and a document more."""
    documents, refs = {}, {}
    for number in range(count):
        documents[f"pull-requests/0/{number}.json"] = {"pull_request": {"id": number}}
        code = None
        if number:
            writer: RepositoryWriter = await made.add("website", 1)
            code = writer.path / "code.git"
            top = tree(code, (b"100644", b"readme", blob(code, b"%d\n" % number)))
            refs[b"refs/heads/branch-%d" % number] = commit(code, top)
        await made.add("website", 1, refs=refs, documents=documents)
    return made.folder("website")


def at(folder: RepositoryFolder, moment: lines.Moment) -> Snapshot:
    found = folder.metadata.get(moment.id)
    assert found is not None
    return found


async def test_a_time_line_has_every_snapshot_and_finds_one_by_date(made: Made) -> None:
    folder = await grow(made, 3)
    found = lines.timeline(folder)
    kept = found.kept
    assert [one.id for one in kept] == sorted((one.id for one in kept), reverse=True)
    assert [one.complete for one in kept] == [True] * len(kept) and found.months() == {"2026-11": len(kept)}
    newest, before = kept[0], kept[1]
    assert found.before(newest.id) == before and found.after(before.id) == newest
    assert found.before(kept[-1].id) is None and found.after(newest.id) is None
    assert found.as_of("latest") == newest == found.as_of("2026-11-23")
    assert found.as_of(before.time.isoformat()) == before
    assert found.as_of((newest.time - timedelta(seconds=1)).isoformat()) == before
    for text in ("yesterday", "2026-11-22", "", "9999999-01-01", "\0"):
        with pytest.raises(UsageError):
            found.as_of(text)


async def test_what_changed_is_told_by_ref_and_by_kind(made: Made) -> None:
    folder = await grow(made, 2)
    newest, before = lines.timeline(folder).kept[:2]
    changed = changes(folder, at(folder, before), at(folder, newest))
    assert [(one.name, one.kind) for one in changed.refs] == [(b"refs/heads/branch-1", "added")]
    assert changed.ref_counts == {"added": 1}
    assert changed.documents == {"pull-requests": {"added": 1}}
    back = changes(folder, at(folder, newest), at(folder, before))
    assert back.ref_counts == {"removed": 1} and back.documents == {"pull-requests": {"removed": 1}}
    first = changes(folder, None, at(folder, lines.timeline(folder).kept[-1]))
    assert first.ref_counts == {"added": 1} and first.documents["downloads"] == {"added": 1}


async def test_a_lost_tag_and_a_damaged_ledger_are_told(made: Made) -> None:
    folder = await grow(made, 2)
    newest = lines.timeline(folder).kept[0]
    with Documents(folder.metadata.path) as documents:
        documents.set_refs({f"refs/tags/{newest.id}": None})
    lost = lines.timeline(folder).find(newest.id)
    assert lost is not None and lost.damage and not lost.is_kept
    assert lines.timeline(folder).kept[0].id < newest.id
    flip(folder.root / folder.place / layout.LEDGER_FILE, 40)
    found = lines.timeline(folder)
    assert found.damage and found.find(newest.id) is None and found.kept[0].complete is None


async def test_damage_of_a_change_is_told_in_it(made: Made) -> None:
    folder = await grow(made, 2)
    newest, before = (at(folder, one) for one in lines.timeline(folder).kept[:2])
    lost = Snapshot(**{**newest.__dict__, "tree": "2" * 40})
    assert "2222" in changes(folder, before, lost).damage


async def test_what_is_known_is_not_read_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await grow(made, 2)
    known, several = KnownChanges(), lines.Timelines()
    kept = several.of(folder).kept
    pairs = [(kept[1], kept[0]), (None, kept[-1])]
    first = known.of(folder, pairs)
    assert first[0] == changes(folder, at(folder, kept[1]), at(folder, kept[0]))
    assert first[1] == changes(folder, None, at(folder, kept[-1]))
    monkeypatch.setattr("mirror.browse.repository.changes.changes", lambda *_: pytest.fail("it was read"))
    assert known.of(folder, pairs) == first
    assert several.of(folder) is several.of(folder)
    await made.add("website", 1, documents={"issues/0/1.json": {}})
    assert [one.id for one in several.of(folder).kept[1:]] == [one.id for one in kept]


async def test_damage_is_looked_at_anew(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await grow(made, 2)
    known, kept = KnownChanges(), lines.timeline(folder).kept
    with monkeypatch.context() as patched:
        patched.setattr(type(folder.metadata), "several", lambda *_: {})
        assert known.of(folder, [(kept[1], kept[0])])[0].damage
    assert not known.of(folder, [(kept[1], kept[0])])[0].damage


def test_what_was_not_used_for_longest_is_forgotten() -> None:
    recent = Recent[str, int](2)
    for name, value in (("a", 1), ("b", 2)):
        recent.put(name, value)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
