"""Why snapshots are kept, by the retention of the configuration."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mirror.browse.repository.keeping import Keeping, keeping
from mirror.browse.repository.timeline import timeline
from mirror.config import load_text
from mirror.store.reading.reader import Store
from tests.browse.repository.test_timeline import grow
from tests.extract.made import Made

_ENTRY = (
    "store: store\ncredential: {kind: api_token, email: ann@acme.example, token: {env: TOKEN}}\n"
    "workspaces: [{workspace: acme, accept_missing: [%s]}]\n"
)


def told(made: Made, more: str, *, lacking: bool = False, accepted: str = "") -> Keeping:
    folder = made.folder("website")
    kept = [replace(one, complete=not lacking) for one in timeline(folder).kept]
    config = load_text(_ENTRY % accepted + more, "config.yaml", folder=Path("/etc"))
    with Store.open(folder.root) as store:
        return keeping(store, folder, kept, config, kept[0].time + timedelta(hours=1))


async def test_each_snapshot_names_the_rules_that_keep_it(made: Made) -> None:
    await grow(made, 2)
    ids = [one.id for one in timeline(made.folder("website")).kept]
    found = told(made, "retention: {keep_last: 1}\n")
    assert found.reasons[ids[0]] == "kept as last, newest, newest complete"
    assert {found.reasons[one] for one in ids[1:]} == {"no rule keeps it"} and len(found.reasons) == len(ids)


async def test_without_retention_everything_is_kept_and_without_a_configuration_nobody_knows(
    made: Made,
) -> None:
    folder = await grow(made, 1)
    assert told(made, "") == Keeping("No retention is configured: every snapshot is kept.")
    line = timeline(folder)
    with Store.open(folder.root) as store:
        assert keeping(store, folder, line.kept, None, line.kept[0].time) == Keeping()


async def test_what_only_the_snapshots_know_is_not_told(made: Made) -> None:
    await grow(made, 1)
    assert told(made, "retention: {keep_last: 1}\n", lacking=True).reasons
    found = told(made, "retention: {keep_last: 1}\n", lacking=True, accepted="issues")
    assert not found.reasons and "mirror prune --dry-run" in found.rule
