"""Without changes, a run is almost free: two requests for each repository, and it does not open the
documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.git.documents.repository import Documents
from mirror.model import Selector
from tests.place import Killed, Place


async def test_the_documents_are_not_opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.run()
    opened: list[str] = []
    begin = Documents.__init__

    def note(self: Documents, path: Path) -> None:
        opened.append(str(path))
        begin(self, path)

    monkeypatch.setattr(Documents, "__init__", note)
    states = {path: path.read_bytes() for path in place.config.store.rglob("state.json")}
    run = await place.run()
    assert {str(one.outcome) for one in run.entries} == {"confirmed"}
    assert [path for path in opened if "/repositories/" in path] == []
    repositories = {p for p in states if "/repositories/" in str(p)}
    assert {path: path.read_bytes() for path in repositories} == {p: states[p] for p in repositories}


async def test_it_takes_two_requests_for_each_repository(place: Place) -> None:
    await place.run()
    run = await place.run()
    count = len(place.acme.repositories)
    assert run.facts["requests"] <= 2 * count + 1 + 5


async def test_work_that_a_killed_run_left_is_not_called_confirmed(place: Place) -> None:
    """Its cursors have moved, so nothing is new upstream; but no snapshot has the data yet."""
    await place.run()
    place.acme.repositories["api"].pull_requests[1].edit(
        title="Another title", author=place.world.users["eve@acme.example"]
    )
    with pytest.MonkeyPatch.context() as patched:

        def killed(*_: object, **__: object) -> None:
            raise Killed

        patched.setattr("mirror.store.writing.folder_writer.FolderWriter.snapshot", killed)
        with pytest.raises(BaseExceptionGroup):
            await place.run()
    run = await place.run()
    [entry] = [one for one in run.entries if one.full_name == "acme/api"]
    assert str(entry.outcome) == "saved"
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/api"))
        latest = folder.metadata.latest()
        assert latest is not None
        document = folder.metadata.read(latest, "pull-requests/0/1.json")
    assert document is not None and document["pull_request"]["title"] == "Another title"
