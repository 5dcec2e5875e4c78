"""What many quiet repositories cost, while hooks are trusted."""

from __future__ import annotations

from pathlib import Path

from tests.backup.hooked import NAMES, hooked_world


async def test_quiet_repositories_cost_as_many_requests_as_their_list_has_pages(tmp_path: Path) -> None:
    async with hooked_world(tmp_path) as hooked:
        for number in range(101 - len(NAMES)):
            hooked.acme.add_repository(f"quiet-{number}")
        hooked.announcements.recall({hooked.acme.uuid: {"heard": True, "proofs": 3}})
        assert (await hooked.run()).exit_code == 0
        hooked.paths()
        assert (await hooked.run()).exit_code == 0
        paths = hooked.paths()
        assert 0 < sum("/2.0/" in one for one in paths) <= 2 + 5
        asked = {one.split(".git/")[0].partition(" ")[2] for one in paths if ".git/" in one}
        assert len(asked) == 101  # each all the same
