"""A repository with everything that a Forgejo can take, restored into one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import UsageError
from mirror.forgejo.failures import Refused
from mirror.restore.carry.report import Outcome
from mirror.restore.into_forgejo import Place
from mirror.restore.plan.source import Options
from mirror.store.reading.reader import Store
from tests.forgejo.carried import Restore
from tests.forgejo.conftest import LFS_CONTENT
from tests.forgejo.fake import FakeForgejo
from tests.git.backend import git

pytestmark = pytest.mark.git
MADE = Counter(
    labels=9, milestones=1, issues=7, keys=1, releases=1, hooks=1, branch_protections=1,
)  # fmt: skip


@pytest.fixture
def restore(stored: Store, forge: FakeForgejo, tmp_path: Path) -> Restore:
    return Restore(stored, forge, tmp_path / "state", Place(forge.url, "acme"))


def counts(restore: Restore) -> Counter[str]:
    return Counter({kind: len(restore.things(kind)) for kind in MADE})


@pytest.fixture(scope="module")
def restored(stored: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restore]:
    """One restore of everything, with a person and a secret. Nothing may change it."""
    folder = tmp_path_factory.mktemp("restored")
    secrets = folder / "secrets.yaml"
    secrets.write_text("website/webhooks/https://ci.acme.example/hook: {env: HOOK}\n")
    options = Options(people={"{7816c190-1c48-5f5c-bd9b-8bc8272f8fcd}": "ann"})
    with FakeForgejo(folder / "forge") as forge:
        restore = Restore(stored, forge, folder / "state", Place(forge.url, "acme"), options, secrets)
        restore.report = asyncio.run(restore.run())
        yield restore
    assert forge.violations == []


def test_everything_is_there(restored: Restore) -> None:
    restore, report = restored, restored.report
    assert report is not None
    [refused] = report.owed
    assert (refused.label, refused.status) == ("the attachment program.exe of issue 1 of website", 422)
    assert report.exit_code == 3
    assert counts(restore) == MADE

    [folder] = restore.stored.repositories()
    held = folder.metadata.mirrors(folder.metadata.at("latest").snapshot)
    upstream = {name.decode(): value for name, value in held["code"].refs.refs.items()}
    refs = restore.refs()
    assert refs.pop("refs/heads/idea") == held["code"].pins[4]
    assert refs.pop("refs/tags/bitbucket-downloads") == upstream["refs/heads/main"]
    assert refs == {name: value for name, value in upstream.items() if not name.startswith("refs/mirror/")}
    assert restore.forge.objects.popitem()[1] == LFS_CONTENT
    wiki = restore.refs("website.wiki")
    assert wiki["refs/heads/main"] == held["wiki"].refs.refs[b"refs/heads/main"]
    repository = restore.forge.forge.repositories["acme", "website"].data
    assert (repository["private"], repository["default_branch"]) == (True, "main")
    assert (repository["description"], repository["wiki_branch"]) == ("The shop window", "main")

    [hook] = restore.things("hooks")
    assert (hook["active"], hook["events"], hook["_secret"]) == (
        False,
        ["push", "pull_request"],
        "h00k-secret",
    )
    [rule] = restore.things("branch_protections")
    assert rule["push_whitelist_usernames"] == ["ann"]
    assert (rule["rule_name"], rule["required_approvals"]) == ("main", 2)
    [release] = restore.things("releases")
    [asset] = restore.things(f"releases/{release['id']}/assets")
    files = restore.forge.forge.repositories["acme", "website"].files
    assert (asset["name"], files[asset["id"]]) == ("catalogue.pdf", b"%PDF-1.4 an empty catalogue\n")
    assert [one["title"] for one in restore.things("milestones")] == ["1.0"]


def test_discussions_say_who_wrote_what_and_where(restored: Restore) -> None:
    restore = restored
    issue = restore.thing("issues", "*Issue 1 of acme/website on Bitbucket, by Ann Archer,")
    # Whoever is called `bob` there is not told, and no issue there is meant.
    assert "See #\u20602, @\u2060bob: `#3`" in issue["body"]
    assert (issue["number"], issue["state"], issue["title"]) == (1, "open", "Broken link")
    assert [one["name"] for one in issue["labels"]] == ["state: new", "kind: bug", "priority: major"]
    said = [one["body"] for one in restore.things("issues/1/comments")]
    assert [text.splitlines()[-1] for text in said] == ["Where?", "On @{x}"]
    assert all(text.startswith("*Comment ") and " by Ann Archer, 2026-" in text for text in said)
    [png] = restore.things("issues/1/assets")
    assert png["name"] == "screen.png"
    other = restore.thing("issues", "*Issue 2 of")
    assert (other["state"], other["labels"][0]["name"]) == ("closed", "state: wontfix")

    opened = restore.thing(
        "issues", "*Pull request 3 of acme/website on Bitbucket, by Bob Baker, 2026-03-08.*"
    )
    pull = opened["_pull"]
    assert (pull["head"]["ref"], pull["base"]["ref"], pull["state"]) == ("feature/blog", "main", "open")
    assert "- [ ] Add an RSS feed *(Ann Archer, 2026-03-08)*" in opened["body"]
    [remark] = restore.things(f"issues/{opened['number']}/comments")
    assert (
        ", on line 1 of `blog.html`.*\n\n```\n<h1>Blog</h1>\n```\n\nThis line is too long." in remark["body"]
    )

    of_fork = restore.thing("issues", "*Pull request 4 of")
    assert (of_fork["_pull"]["head"]["ref"], of_fork["_pull"]["base"]["ref"]) == ("idea", "main")
    assert "in bob/shop" in of_fork["body"]
    [remark] = restore.things(f"issues/{of_fork['number']}/comments")
    assert "\n\n````\n```\n````\n\nFixes #\u20601?" in remark["body"]


def test_what_was_closed_comes_as_issues(restored: Restore) -> None:
    restore = restored
    merged = restore.thing("issues", "*Pull request 1 of")
    assert "_pull" not in merged
    assert (merged["state"], merged["labels"][0]["name"]) == ("closed", "pull request: merged")
    assert "; merged as " in merged["body"]
    assert "*Approved by Bob Baker.*" in merged["body"]
    first, reply = (one["body"] for one in restore.things(f"issues/{merged['number']}/comments"))
    assert "- [x] Take a screenshot *(Bob Baker, 2026-03-07)*" in first
    assert "; resolved by Bob Baker, 2026-03-07.*" in first
    assert ", to comment 2 of Bob Baker.*\n\nIt does now." in reply
    superseded = restore.thing("issues", "*Pull request 2 of")
    assert (superseded["state"], superseded["labels"][0]["name"]) == ("closed", "pull request: superseded")
    late = restore.thing("issues", "*Pull request 5 of")
    assert (late["state"], late["labels"][0]["name"]) == ("open", "pull request: open")
    assert "*It comes as an issue: its destination, the branch old, is gone.*" in late["body"]


@pytest.mark.parametrize("after", [0, 22, 31])
async def test_no_answer_and_a_second_run_make_nothing_twice(restore: Restore, after: int) -> None:
    """The server carries a request out and goes down, and the restore ends without having seen the answer."""
    restore.forge.silent_after = after
    first = await restore.run()
    assert first.stopped is not None
    restore.forge.is_down = False
    second = await restore.run()
    assert second.stopped is None
    assert [one.status for one in second.owed] == [422]
    assert counts(restore) == MADE


async def test_without_a_journal_everything_is_found(restore: Restore) -> None:
    restore.forge.page_most = 2
    await restore.run()
    made = len(restore.forge.writes())
    restore.state = restore.state.with_name("another-state")
    await restore.run()
    assert restore.forge.writes()[made:] == ["POST /repos/{owner}/{repo}/issues/{index}/assets"]
    assert counts(restore) == MADE


async def test_what_exists_and_differs_is_left_and_told(restore: Restore) -> None:
    body = {"name": "website", "description": "Ours"}
    forge = restore.forge.forge
    forge._create("acme", body)
    place = forge.git_of("acme", "website")
    blob = git("hash-object", "-w", "--stdin", cwd=place, stdin=b"ours").strip()
    tree = git("mktree", cwd=place, stdin=f"100644 blob {blob}\tours\n".encode()).strip()
    ours = git("commit-tree", tree, "-m", "ours", cwd=place).strip()
    git("update-ref", "refs/heads/main", ours, cwd=place)
    report = await restore.run()
    differing = {one.key: one.message for one in report.entries if one.outcome is Outcome.DIFFERS}
    assert "private, description" in differing["website/repository"]
    assert "1 of these refs" in differing["website/branches"]
    assert report.exit_code == 3
    assert restore.refs()["refs/heads/main"] == ours
    assert forge.repositories["acme", "website"].data["description"] == "Ours"


async def test_overwrite_changes_what_differs(restore: Restore) -> None:
    restore.forge.forge._create("acme", {"name": "website", "description": "Ours"})
    restore.options = Options(overwrite=True)
    await restore.run()
    assert restore.forge.forge.repositories["acme", "website"].data["description"] == "The shop window"


async def test_refusals_are_listed_and_the_rest_comes(restore: Restore) -> None:
    def refuse(operation: str, body: dict[str, Any]) -> tuple[int, str] | None:
        if operation == "POST /repos/{owner}/{repo}/issues" and body["title"] == "Broken link":
            return 403, "the issue is not allowed"
        return (404, "no hooks here") if operation == "POST /repos/{owner}/{repo}/hooks" else None

    restore.forge.refuse = refuse
    report = await restore.run()
    refused = {one.key: (str(one.outcome), one.status) for one in report.owed}
    assert refused["website/issue/1"] == ("refused", 403)
    assert refused["website/issue/1/comment/17"] == ("not tried", 0)
    assert refused["website/webhooks/https://ci.acme.example/hook"] == ("refused", 404)
    assert report.exit_code == 3
    assert len(restore.things("issues")) == MADE["issues"] - 1


async def test_a_user_gets_the_repository_under_a_new_name(restore: Restore) -> None:
    restore.place = Place(restore.forge.url, "Restorer", "shop")
    restore.options = Options(only=frozenset({"code"}))
    report = await restore.run()
    assert report.exit_code == 0, report.lines()
    assert "refs/heads/main" in restore.refs("shop")
    assert restore.things("issues") == []


async def test_one_pull_request_comes_alone(restore: Restore) -> None:
    restore.options = Options(only=frozenset({"pull-requests/3"}))
    assert (await restore.run()).exit_code == 0
    [pull] = restore.things("issues")
    assert (pull["_pull"]["head"]["ref"], pull["number"]) == ("feature/blog", 1)
    assert set(restore.refs()) == {"refs/heads/feature/blog", "refs/heads/main"}


async def test_a_busy_server_is_asked_again(restore: Restore) -> None:
    restore.forge.busy = 3
    restore.options = Options(only=frozenset({"settings"}))
    assert (await restore.run()).exit_code == 0


async def test_a_refused_token_ends_it(restore: Restore) -> None:
    restore.token = "n0-such-token"
    with pytest.raises(Refused, match="Forgejo refused the token"):
        await restore.run()


async def test_an_owner_that_is_not_there_is_said(restore: Restore) -> None:
    restore.place = replace(restore.place, owner="nobody")
    with pytest.raises(UsageError, match="has no organisation nobody"):
        await restore.run()
    assert restore.forge.writes() == []


def test_neither_urls_nor_journals_nor_the_report_have_a_secret(restored: Restore) -> None:
    assert restored.report is not None
    journals = [path.read_bytes() for path in restored.state.rglob("*.jsonl")]
    assert journals
    said = str(restored.report.to_json()) + "".join(restored.report.lines())
    for secret in (restored.forge.token, "h00k-secret"):
        assert all(secret not in path for path, _ in restored.forge.requests)
        assert all(secret.encode() not in data for data in journals)
        assert secret not in said


@pytest.mark.parametrize(
    ("text", "url", "owner", "name"),
    [
        ("https://git.example.org/acme", "https://git.example.org", "acme", None),
        ("https://git.example.org:3000/acme/web", "https://git.example.org:3000", "acme", "web"),
        ("https://example.org/git/acme/", "https://example.org/git", "acme", None),
        ("https://example.org/git/acme/web", "https://example.org/git", "acme", "web"),
    ],
)
def test_places(text: str, url: str, owner: str, name: str | None) -> None:
    assert Place.parse(f"forgejo:{text}") == Place(url, owner, name)


@pytest.mark.parametrize(
    "text", ["", "git.example.org/acme", "https://git.example.org", "https://ann:s3cr3t@x.org/acme", "ssh://x/y",
             "https://x.org/..", "https://x.org/acme?token=s3cr3t", "https://x:0/acme", "http://x.org/acme"],
)  # fmt: skip
def test_wrong_places_are_told_without_their_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Place.parse(f"forgejo:{text}")
    assert "s3cr3t" not in caught.value.message + str(caught.value.hint)
