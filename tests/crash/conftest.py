"""Only one scene exists at a time; tests of the same action run one after another and share it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.actions import Scene, scene
from tests.git.backend import need_git


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The scene of the action that the test is parametrized with (indirectly)."""
    need_git()
    folder = tmp_path_factory.mktemp(f"crash-{request.param}").resolve()
    with scene(folder, request.param) as found:
        yield found
