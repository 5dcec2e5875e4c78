"""Visits that hooks cause: what they cost, what they save, and what their records say."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror import browse
from mirror.backup import announced
from mirror.backup.announced import Visited
from mirror.browse.runs import RunLog, calendar
from mirror.simulator import Fault
from mirror.store.writing.locks import hold_briefly
from mirror.store.writing.unfinished_backup import has_unfinished_backup
from tests.backup.hooked import NAMES, Hooked, hooked_world

PULL_REQUEST = "pull-requests/0/1.json"
STRANGER = "{00000000-0000-4000-8000-000000000000}"


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[Hooked]:
    async with hooked_world(tmp_path) as made:
        yield made


def to_git(paths: list[str]) -> list[str]:
    return [one for one in paths if ".git/" in one]


def to_api(paths: list[str]) -> list[str]:
    return [one for one in paths if "/2.0/" in one]


def announced_records(hooked: Hooked) -> int:
    return sum(bool(record["facts"].get("announced")) for record in hooked.records())


# -- what a visit costs and saves


async def test_a_push_is_fetched_first_and_then_the_lists_are_read(hooked: Hooked) -> None:
    await hooked.quiet()
    before = hooked.snapshots("website")
    hooked.push("website", "1")
    assert await hooked.hook("website") is not Visited.UNKNOWN
    paths = hooked.paths()
    assert ".git/" in paths[0]
    assert len(to_git(paths)) == 2  # what there is, and what is new
    assert len([one for one in to_api(paths) if "/commit/" not in one]) <= 3
    assert hooked.snapshots("website") == before + 1

    # The same hook once more costs one request; another one about nothing, those for the lists as well.
    assert await hooked.hook("website", again=True) is not Visited.UNKNOWN
    assert len(hooked.paths()) == 1
    assert await hooked.hook("website") is not Visited.UNKNOWN
    paths = hooked.paths()
    assert len(to_git(paths)) == 1
    assert 0 < len(to_api(paths)) <= 3
    assert hooked.snapshots("website") == before + 1


async def test_a_push_that_looks_like_an_earlier_one_is_saved_without_the_api(hooked: Hooked) -> None:
    await hooked.quiet()
    before = hooked.snapshots("shop")
    hooked.push("shop", "1")
    assert await hooked.hook("shop", again=True) is not Visited.UNKNOWN
    assert to_api(hooked.paths()) == []
    assert hooked.snapshots("shop") == before + 1


async def test_a_comment_and_a_new_pull_request_are_in_the_snapshot(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.comment("well said")
    assert await hooked.hook("website") is not Visited.UNKNOWN
    assert "well said" in json.dumps(hooked.document("website", PULL_REQUEST))
    head = hooked.repository("website").commit("other", {"c.txt": b"1"}, "Other\n")
    hooked.repository("website").open_pull_request(
        title="Other", source="other", destination="main", author=hooked.ann
    )
    assert await hooked.hook("website") is not Visited.UNKNOWN
    metadata = hooked.folder("website").metadata
    latest = metadata.latest()
    assert latest is not None
    known = metadata.code_refs(latest)
    assert known is not None
    assert known[1][2] == head  # pinned in the same visit


async def test_too_few_requests_leave_the_api_to_the_next_run(hooked: Hooked) -> None:
    await hooked.trusted()
    hooked.push("website", "1")
    hooked.comment("later")
    with hooked.nearly_used_up():
        hooked.paths()
        assert await hooked.hook("website") is not Visited.UNKNOWN
        assert to_api(hooked.paths()) == []
        await hooked.gathered()
    [entry] = [one for one in hooked.records()[-1]["entries"] if one["full_name"] == "acme/website"]
    assert (entry["outcome"], entry["problems"][0]["code"]) == ("partial", 75)
    assert hooked.announcements.is_waiting(hooked.repository("website").uuid)
    run = await hooked.run()  # it polls nothing but what waits
    assert run.exit_code == 0
    asked = {one.split("/")[4] for one in hooked.paths() if one.endswith("/pullrequests")}
    assert asked == {"website"}
    assert "later" in json.dumps(hooked.document("website", PULL_REQUEST))


async def test_no_visit_eats_what_is_left_to_the_schedule(hooked: Hooked) -> None:
    await hooked.quiet()
    for number in range(3):
        hooked.comment(f"comment {number}")
        hooked.repository("website").commit("topic", {"b.txt": b"%d" % number}, "More\n")
    new = hooked.acme.add_repository("new")
    new.commit("main", {"a.txt": b"0\n"}, "Begin\n")
    for number in range(3):
        new.commit(f"topic-{number}", {"b.txt": b"%d" % number}, "Topic\n")
        new.open_pull_request(
            title="Topic", source=f"topic-{number}", destination="main", author=hooked.ann
        ).comment("hm", author=hooked.ann)
    [identity] = {identity for identity, group in hooked.budget._purses if group == "api"}
    limit = hooked.budget.used(identity, "api")[1]
    left = limit // 4 + 10 + 5  # 5 are left to visits
    hooked.budget.learn(identity, "api", limit=limit, remaining=left)
    await hooked.hook("website")
    await hooked.announced.discover({new.uuid})
    assert hooked.budget.left(identity, "api") >= limit // 4
    assert (await hooked.run()).exit_code == 0  # an hour later the schedule has what they left
    assert "comment 2" in json.dumps(hooked.document("website", PULL_REQUEST))
    assert hooked.snapshots("new") >= 1


# -- beside runs of the schedule


async def test_a_run_that_came_after_the_hook_takes_its_place(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.push("website", "1")
    uuid = hooked.repository("website").uuid
    hooked.announcements.announce(uuid)
    await hooked.run(after=1)
    hooked.paths()
    assert await hooked.announced.backup(uuid, git_only=False) is not Visited.UNKNOWN
    assert hooked.paths() == []


async def test_a_visit_waits_for_the_run_that_is_at_the_repository(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.push("website", "1")
    before = hooked.snapshots("website")
    hooked.simulator.order(Fault("POST /acme/website.git/*", "slow", seconds=0.5, times=1))
    running = asyncio.ensure_future(hooked.run())
    while not hooked.simulator.faults._standing[0].met:
        await asyncio.sleep(0.01)
    pushed = hooked.push("website", "2")
    assert await hooked.hook("website") is not Visited.UNKNOWN
    run = await running
    assert {str(one.outcome) for one in run.entries} <= {"saved", "confirmed"}
    assert hooked.tip("website") == pushed
    assert before < hooked.snapshots("website") <= before + 2


async def test_a_folder_that_another_process_holds_is_left_to_the_schedule(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hooked.quiet()
    monkeypatch.setattr(announced, "LOCK_SECONDS", 0.0)
    folder = hooked.folder("website")
    with hold_briefly(folder.root / folder.place / "lock"):
        assert await hooked.hook("website") is not Visited.UNKNOWN
    await hooked.gathered()
    assert hooked.announcements.is_waiting(folder.uuid)
    assert announced_records(hooked) == 0


# -- records


async def test_the_record_is_of_announced_repositories_and_counts_for_nothing_else(hooked: Hooked) -> None:
    await hooked.quiet()
    with hooked.store() as store:
        before = store.history()
    hooked.push("website", "1")
    await hooked.hook("website")
    await hooked.hook("shop")
    await hooked.gathered()
    record = hooked.records()[-1]
    assert record["facts"]["announced"] is True
    assert record["looked_at"] is None
    named = {one["full_name"]: one["outcome"] for one in record["entries"]}
    assert named == {"acme/website": "saved", "acme/shop": "confirmed"}
    with hooked.store() as store:
        after = store.history()
        for name in ("last", "scoped", "began", "good", "last_good", "lists"):
            assert getattr(after, name) == getattr(before, name)
        found = after.find("repository", hooked.repository("website").uuid)
        assert found is not None
        assert (found.confirmed, found.full_name) == (hooked.last_ended(), "acme/website")
        uuid = hooked.repository("tools").uuid
        assert after.find("repository", uuid) == before.find("repository", uuid)
        [last, *earlier] = RunLog().rows(store, 10)
        assert (last.kind, last.is_announced, last.saved) == ("backup", True, 1)
        assert not any(one.is_announced for one in earlier)
        assert [one.runs for one in calendar([last], now=hooked.clock.now(), weeks=1)] == [0]
    status = browse.status(hooked.config.store)
    assert status.last_backup == before.last["backup"]
    assert not [one for one in status.repositories if one.problems]
    assert (await hooked.run()).exit_code == 0
    assert len(json.dumps(hooked.records()[-1])) < 2000  # the list of the last run of everything serves on


async def test_records_are_a_minute_apart_and_then_a_quarter_of_an_hour(hooked: Hooked) -> None:
    await hooked.quiet()
    count = len(hooked.records())
    for text in ("1", "2"):
        hooked.push("website", text)
        await hooked.hook("website")
    assert len(hooked.records()) == count
    await hooked.wait(60, lambda: len(hooked.records()) == count + 1)
    assert [len(one["entries"]) for one in hooked.records()[count:]] == [1]
    hooked.push("website", "3")
    await hooked.hook("website")
    await hooked.clock.pass_time(60)
    assert len(hooked.records()) == count + 1
    await hooked.wait(840, lambda: len(hooked.records()) == count + 2)


async def test_visits_that_find_nothing_leave_no_record(hooked: Hooked) -> None:
    await hooked.quiet()
    await hooked.hook("website")
    await hooked.gathered()
    assert announced_records(hooked) == 0


# -- trust


async def test_quiet_repositories_of_trusted_hooks_cost_no_request_of_the_api(hooked: Hooked) -> None:
    await hooked.trusted()
    run = await hooked.run()
    assert run.exit_code == 0
    paths = hooked.paths()
    assert len(to_api(paths)) <= 1 + 5
    assert len(to_git(paths)) == len(NAMES)  # git is asked all the same
    assert [str(one.outcome) for one in run.entries] == ["confirmed"] * 4
    assert run.facts["hooks"][hooked.acme.uuid]["polled"] is False


async def test_a_lost_hook_of_a_push_is_met_by_the_next_run_and_ends_trust(hooked: Hooked) -> None:
    await hooked.trusted()
    pushed = hooked.push("shop", "1")
    await hooked.run()
    assert hooked.tip("shop") == pushed
    run = await hooked.run()
    facts = run.facts["hooks"][hooked.acme.uuid]
    assert (facts["unannounced_changes"], facts["polled"]) == (1, True)
    assert not hooked.announcements.are_trusted()


async def test_a_new_process_knows_what_the_records_say_and_polls_first(hooked: Hooked) -> None:
    await hooked.trusted()
    await hooked.announced.stop()
    hooked.start()
    hooked.comment("while it was down")
    run = await hooked.run()
    facts = run.facts["hooks"][hooked.acme.uuid]
    assert (facts["polled"], facts["proofs"], facts["unannounced_changes"]) == (True, 3, 0)
    assert "while it was down" in json.dumps(hooked.document("website", PULL_REQUEST))
    assert (await hooked.run()).facts["hooks"][hooked.acme.uuid]["polled"] is False


async def test_a_lost_state_file_is_read_anew_whatever_hooks_say(hooked: Hooked) -> None:
    await hooked.trusted()
    before = hooked.part("website", "pull_requests")
    for name in NAMES:
        folder = hooked.folder(name)
        (folder.root / folder.place / "state.json").unlink()
    assert (await hooked.run()).exit_code == 0
    assert hooked.part("website", "pull_requests") == before


@pytest.mark.parametrize("seed", range(2))
async def test_a_third_of_the_hooks_lost_loses_nothing(hooked: Hooked, seed: int) -> None:
    chance = random.Random(seed)
    await hooked.trusted()
    comments: dict[str, float] = {}
    for step in range(7):
        for number in range(chance.randrange(4)):
            name = chance.choice(NAMES)
            text = f"{seed} {step} {number}."
            if name == "website" and chance.random() < 0.5:
                hooked.comment(text)
                comments[text] = hooked.clock.elapsed
            else:
                hooked.push(name, text)
            if chance.random() >= 0.3:
                await hooked.hook(name, again=chance.random() < 0.1)
        assert (await hooked.run(4 * 3600)).exit_code == 0
        for name in NAMES:
            assert hooked.tip(name) == hooked.repository(name).branch("main")
        held = json.dumps(hooked.document("website", PULL_REQUEST))
        late = [text for text, when in comments.items() if hooked.clock.elapsed - when >= 86_400]
        assert all(text in held for text in late)


# -- repositories that are new, gone, renamed


async def test_a_repository_that_the_store_does_not_have_is_found_by_a_list(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.acme.add_repository("new").commit("main", {"a.txt": b"0\n"}, "Begin\n")
    assert await hooked.hook("new") is Visited.UNKNOWN
    assert await hooked.announced.backup(STRANGER, git_only=False) is Visited.UNKNOWN
    assert hooked.paths() == []
    uuid = hooked.repository("new").uuid
    assert await hooked.announced.discover({uuid, STRANGER}) == ({uuid}, True)
    assert hooked.snapshots("new") == 1
    assert not any("website" in one or "shop" in one for one in hooked.paths())


async def test_a_repository_that_lists_lack_is_not_taken_for_back(hooked: Hooked) -> None:
    await hooked.quiet()
    before = hooked.snapshots("shop")
    gone = hooked.acme.delete_repository("shop")
    hooked.announcements.announce(gone.uuid)
    assert await hooked.announced.backup(gone.uuid, git_only=False) is not Visited.UNKNOWN
    await hooked.gathered()
    assert hooked.snapshots("shop") == before
    assert announced_records(hooked) == 0
    await hooked.run()
    hooked.paths()
    assert await hooked.announced.backup(gone.uuid, git_only=False) is Visited.UNKNOWN
    assert hooked.paths() == []
    assert await hooked.announced.discover({gone.uuid}) == (set(), True)
    assert hooked.folder("shop").missing is not None


@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_name_that_changed_hands_is_found_by_a_list(hooked: Hooked, is_taken: bool) -> None:
    await hooked.quiet()
    shop = hooked.repository("shop")
    hooked.acme.rename_repository("shop", "store")
    if is_taken:
        hooked.acme.add_repository("shop").commit("main", {"other.txt": b"another\n"}, "Another\n")
    pushed = shop.commit("main", {"a.txt": b"1\n"}, "One\n")
    hooked.announcements.announce(shop.uuid)
    assert await hooked.announced.backup(shop.uuid, git_only=False) is Visited.UNKNOWN
    await hooked.announced.discover({shop.uuid})
    assert hooked.tip("store") == pushed
    assert (await hooked.run()).exit_code == 0
    assert hooked.folder("store").uuid == shop.uuid
    if is_taken:
        assert hooked.tip("shop") == hooked.repository("shop").branch("main")


# -- the mass-loss brake


async def test_losses_of_many_visits_add_up_as_those_of_one_run(hooked: Hooked) -> None:
    tools = hooked.repository("tools")
    for number in range(12):
        tools.commit(f"b{number}", {"n": b"%d" % number}, "Branch\n")
    await hooked.quiet()
    for number in range(0, 8, 2):
        for one in (number, number + 1):
            tools.delete_ref(b"refs/heads/b%d" % one)
            tools.commit(f"c{one}", {"n": b"%d" % one}, "Branch\n")
        await hooked.hook("tools")
    run = await hooked.run()
    assert run.exit_code == 5
    assert any("vanished at once" in one.text for one in run.all_problems)


async def test_prune_waits_where_a_loss_could_not_be_judged(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hooked.quiet()
    hooked.repository("website").commit("gone", {"a": b"1"}, "Gone\n")
    await hooked.hook("website")
    hooked.repository("website").delete_ref(b"refs/heads/gone")

    async def fail(*_: object, **__: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as broken:
        broken.setattr(announced, "judge_workspace", fail)
        await hooked.hook("website")
    with hooked.store() as store:
        [home] = store.workspaces()
    assert has_unfinished_backup(home.root / home.place)
    await hooked.run()
    assert not has_unfinished_backup(home.root / home.place)
