"""One store and its archives, for every test that only reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.archive import Archived, archive
from mirror.model import Selector
from mirror.simulator import World
from tests.archive.world import stored


@dataclass(frozen=True)
class Made:
    """A world, the store of it, and its archives in both forms."""

    world: World
    store: Path
    html: Path
    markdown: Path
    done: list[Archived]


def make(folder: Path, *more: Callable[[World], None]) -> Made:
    """Back up the world with `more` in it, and archive it."""
    world, store = asyncio.run(stored(folder, *more))
    html, markdown = folder / "html", folder / "markdown"
    done = archive(store, Selector.parse("acme"), html, "html")
    archive(store, Selector.parse("acme"), markdown, "markdown")
    return Made(world, store, html, markdown, done)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("archive"))
