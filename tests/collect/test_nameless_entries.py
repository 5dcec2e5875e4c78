"""A list entry without a uuid, a name or a key affects only itself, and the run reports it until it has
one."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.model import Run
from mirror.simulator.api import paging
from mirror.simulator.api.routing import Call
from tests.collect.test_lost_entries import documents, place  # noqa: F401 - a fixture
from tests.place import Place

ADDRESSES = ("/environments", "/schedules", "/deployments/", "/downloads", "/steps/", "/projects")
FOLDERS = ("environments/", "deployments/", "downloads.json", "settings/schedule", "pipelines/", "projects/")


def kept(place: Place) -> dict[str, Any]:  # noqa: F811
    several = {**documents(place), **documents(place, "acme")}
    return {path: one for path, one in several.items() if path.startswith(FOLDERS)}


def told(run: Run) -> str:
    return "\n".join(problem.text for entry in run.entries for problem in entry.problems)


async def test_it_costs_itself_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    page, hidden = paging.page, Call.hidden

    def odd(items: Any, render: Any, pairs: Any, *, base: str, options: Any) -> paging.Document:
        shown = page(items, render, pairs, base=base, options=options)
        if base.endswith(ADDRESSES) and shown["values"]:
            shown["values"] = [{"type": "oddity"}, *shown["values"]]
            if "size" in shown:
                shown["size"] += 1
        return shown

    with monkeypatch.context() as patched:
        patched.setattr(paging, "page", odd)
        patched.setattr(Call, "hidden", lambda self, one: {} if len(one) == 1 else hidden(self, one))
        run = await place.run(full=True)
    assert run.exit_code == 3
    first = kept(place)
    assert all(any(path.startswith(folder) for path in first) for folder in FOLDERS), first.keys()
    after = await place.run(full=True)
    assert after.exit_code == 0, told(after)
    assert kept(place).keys() == first.keys()
