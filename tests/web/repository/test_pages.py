"""The pages of a repository over httpx: everything leads somewhere, says what is so, and stays text."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from mirror.config import load_text
from tests.archive.reading import Page
from tests.archive.test_hostile import SCRIPT
from tests.clock import FakeClock
from tests.e2e.helpers import mirror
from tests.web.helpers import client
from tests.web.world import Lived

API, WEBSITE = "/repositories/acme/api", "/repositories/acme/website"


@pytest_asyncio.fixture
async def web(lived: Lived) -> AsyncIterator[httpx.AsyncClient]:
    async with client(lived.store, FakeClock()) as made:
        yield made


class Shown(Page):
    """A page of which the text of each element stands apart."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.words.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("rect", "path"):  # the mark of the program
            super().handle_startendtag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        super().handle_endtag(tag)
        self.words.append(" ")


async def page(web: httpx.AsyncClient, address: str, status: int = 200) -> Shown:
    answer = await web.get(address)
    found = Shown(answer.text)
    assert answer.status_code == status, f"{address}: {answer.status_code} {found.text[:500]}"
    return found


def kind_of(address: str) -> str:
    """What kind of page an address is of: with ids, numbers and values left out."""
    plain = re.sub(r"[0-9]{8}T[0-9]{6}Z", "S", address)
    plain = re.sub(r"\b[0-9a-f]{40}([0-9a-f]{24})?\b", "H", plain)
    return re.sub(r"/s?[0-9]+", "/N", re.sub(r"=[^&]*", "=", plain))


async def test_every_link_leads_to_a_page_and_no_text_is_more_than_text(web: httpx.AsyncClient) -> None:
    waiting = [API, WEBSITE, "/repositories/acme/guide", "/repositories/acme/billing", "/workspaces/acme"]
    seen, kinds = set(waiting), dict[str, int]()
    while waiting:
        address = waiting.pop(0)
        kind = kind_of(address)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] > (6 if "/code/tree" in kind else 2):
            continue
        answer = await web.get(address, follow_redirects=True)
        # A page that leads to the same thing at another snapshot may lead to where that was not yet.
        assert answer.status_code in (200, 404), f"{address}: {answer.status_code}"
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        found = Shown(answer.text)
        assert found.headings.count(1) == 1, address
        check_nothing_runs(address, found)
        for link in found.links():
            here = unescape(link).partition("#")[0]
            if here.startswith(("/repositories/", "/workspaces/")) and here not in seen:
                seen.add(here)
                waiting.append(here)
    for wanted in ("code/raw?ref=&path=", "code/commit?ref=&commit=", "pull-requests/N", "pipelines/N",
                   "issues/N", "settings", "downloads", "compare?old=&new=", "snippets/N"):  # fmt: skip
        assert any(kind.endswith(wanted) for kind in kinds), f"nothing led to {wanted}"


def check_nothing_runs(address: str, found: Page) -> None:
    assert [tag for tag, _ in found.elements].count("svg") == 1, f"{address}: one is the mark of the program"
    for tag, attributes in found.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "style"), f"{address}: {tag}"
        assert not [name for name in attributes if name.startswith("on") or name == "style"], address
        for name in ("href", "src", "action"):
            if name in attributes:
                assert re.match(r"(/(?!/)|#|https?://|mailto:)", attributes[name]), (
                    address,
                    attributes[name],
                )
        if tag in ("img", "link", "form"):
            place = attributes.get("src", attributes.get("href", attributes.get("action", "")))
            assert place.startswith("/") and not place.startswith("//"), (address, place)


async def test_the_page_of_a_repository_tells_how_it_is(web: httpx.AsyncClient, lived: Lived) -> None:
    found = await page(web, API)
    assert "Saved by the last backup" in found.text or "Unchanged by the last backup" in found.text
    latest = lived.latest("acme/api").id
    assert f"{len(lived.ids('acme/api'))} kept" in found.text
    assert "refs/heads/feature/stock-alerts Removed" in found.text
    [command] = re.findall(r"mirror restore .*? --to \S+", found.text)
    words = shlex.split(command)
    assert words[:3] == ["mirror", "restore", "acme/api"] and latest in words
    assert "Absent" in (await page(web, "/repositories/acme/billing")).text


async def test_the_restore_command_of_a_snapshot_restores_it(
    web: httpx.AsyncClient, lived: Lived, tmp_path: Path
) -> None:
    first = lived.ids("acme/api")[0]
    found = await page(web, f"{API}/{first}")
    [command] = re.findall(r"mirror restore .*? --to \S+", found.text)
    words = shlex.split(command)[1:-1]
    done = mirror(*words, str(tmp_path / "api"))
    assert done.returncode == 0, done.stderr
    assert first in done.stdout + done.stderr


async def test_a_date_leads_to_the_last_snapshot_at_or_before_it(
    web: httpx.AsyncClient, lived: Lived
) -> None:
    ids = lived.ids("acme/api")
    for when, wanted in (("2026-11-23", ids[1]), ("latest", ids[-1]), ("9999-12-31", ids[-1])):
        answer = await web.get(f"{API}/as-of", params={"when": when})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{API}/{wanted}")
    for when in ("2026-11-22", "yesterday", "x" * 3000, "\0"):
        assert "Traceback" not in (await web.get(f"{API}/as-of", params={"when": when})).text
        await page(web, f"{API}/as-of?when={when[:50]}".replace("\0", "%00"), 404)
    answer = await web.get(f"{API}/latest/pull-requests?state=OPEN")
    assert answer.headers["location"] == f"{API}/{ids[-1]}/pull-requests?state=OPEN"


async def test_what_was_is_shown_as_it_was(web: httpx.AsyncClient, lived: Lived) -> None:
    first, last = lived.ids("acme/api")[0], lived.ids("acme/api")[-1]
    assert "Count money in decimals" in (await page(web, f"{API}/{last}/pull-requests")).text
    assert "Count money in decimals" not in (await page(web, f"{API}/{first}/pull-requests")).text
    whole = (await page(web, f"{API}/{last}/pull-requests/3")).text
    for text in ("ROUND_HALF_EVEN", "It is the default of decimal", "src/prices.py line 14",
                 "Resolved by Bob Baker", "Add a test for rounding at .5", "build-17"):  # fmt: skip
        assert text in whole, text
    gone = await page(web, f"{API}/{first}/pull-requests/3", 404)
    assert f"This snapshot, {first}, has nothing called 3" in gone.text
    built = (await page(web, f"{API}/{last}/pipelines/2")).text
    assert "214 passed" in built and "no space left on device" in built
    assert "Invoices are one cent off" in (await page(web, f"{API}/{last}/issues?state=resolved")).text
    assert "Dark mode" not in (await page(web, f"{API}/{last}/issues?state=resolved")).text


async def test_differences_of_two_snapshots(web: httpx.AsyncClient, lived: Lived) -> None:
    ids = lived.ids("acme/website")
    whole = (await page(web, f"{WEBSITE}/compare?old={ids[0]}&new={ids[-1]}")).text
    assert "refs/heads/main Rewritten" in whole
    back = (await page(web, f"{WEBSITE}/compare?old={ids[-1]}&new={ids[0]}")).text
    assert "backwards in time" in back
    moved = lived.ids("acme/api")
    assert "refs/heads/main Forwarded" in (await page(web, f"{API}/{moved[2]}")).text
    assert "No ref differs" in (await page(web, f"{API}/compare?old={moved[0]}&new={moved[0]}")).text


async def test_nothing_that_is_unknown_is_called_none(web: httpx.AsyncClient, lived: Lived) -> None:
    last = lived.latest("acme/website").id
    issues = (await page(web, f"{WEBSITE}/{last}/issues")).text
    assert "Not all issues are in this snapshot" in issues


async def test_old_names_lead_on_and_addresses_last(web: httpx.AsyncClient, lived: Lived) -> None:
    answer = await web.get("/repositories/acme/handbook/latest/settings?x=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/repositories/acme/guide/latest/settings?x=1"
    assert "Called until" in (await page(web, "/repositories/acme/guide")).text
    folder = lived.folder("acme/api")
    for name in (folder.folder, folder.uuid, "API"):
        assert (
            "Orders and stock"
            in (await page(web, f"/repositories/acme/{name}/{lived.ids('acme/api')[0]}")).text
        )


@pytest.mark.parametrize(
    "address",
    [
        "/repositories/acme/nothing", "/repositories/acme/..", "/repositories/%00/%00",
        "/repositories/acme/" + "x" * 5000, "/workspaces/nothing", f"{API}/20261123T999999Z",
        f"{API}/20200101T000000Z", f"{API}/nonsense", f"{API}/%00", f"{API}/snapshots?month=x",
        f"{API}/compare?old=x&new=y", "{last}/pull-requests/99", "{last}/pull-requests/x",
        "{last}/pull-requests?before=x", "{last}/issues/%F0", "{last}/pull-requests?before=" + "9" * 30,
        "{last}/code/tree?ref=nothing", "{last}/code/tree?path=../../etc", "{last}/code/tree?path=%00",
        "{last}/code/tree?ref=base64:!!", "{last}/code/log?commit=zz", "{last}/code?mirror=../x",
        "{last}/code?mirror=wiki&skip=-1", "{last}/code/commit?commit=" + "f" * 40,
        "{last}/files/" + "0" * 64 + "/x", "{last}/files/../../store.json", "{last}/commits/" + "0" * 40,
        "{last}/snippets/1", "{last}/code/raw?path=src", "{last}/code/tree?ref=" + "x" * 4000,
        "{last}/nothing",
    ],
)  # fmt: skip
async def test_bad_addresses_get_a_page_that_says_so(
    web: httpx.AsyncClient, lived: Lived, address: str
) -> None:
    last = f"{API}/{lived.latest('acme/api').id}"
    found = await page(web, address.replace("{last}", last), 404)
    assert "Traceback" not in found.text and "Something went wrong" not in found.text


async def test_files_are_sent_so_that_nothing_runs(web: httpx.AsyncClient, lived: Lived) -> None:
    home = f"/workspaces/acme/{lived.latest('acme').id}"
    several = [one for one in (await page(web, f"{home}/snippets")).links() if "/snippets/" in one]
    sent = {}
    for address in several:
        for link in (await page(web, address)).links():
            if "/files/" in link:
                answer = await web.get(link)
                assert answer.headers["content-type"] == "application/octet-stream"
                assert answer.headers["content-disposition"].startswith("attachment;")
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert hashlib.sha256(answer.content).hexdigest() in link
                sent[link.rpartition("/")[2]] = answer.content
    assert sent["index.html.bin"] == sent["x.svg.bin"] == SCRIPT.encode()
    issue = await page(web, f"{API}/{lived.latest('acme/api').id}/issues/1")
    [picture] = [values["src"] for tag, values in issue.elements if tag == "img"]
    answer = await web.get(picture)
    assert answer.headers["content-type"] == "image/png"
    assert (await web.head(picture)).status_code == 200


async def test_code_at_a_snapshot(web: httpx.AsyncClient, lived: Lived) -> None:
    ids = lived.ids("acme/api")
    first, last = f"{API}/{ids[0]}", f"{API}/{ids[-1]}"
    assert "file1.py" in (await page(web, f"{last}/code/tree?path=src")).text
    assert "file1.py" not in (await page(web, f"{first}/code/tree?path=src")).text
    text = (await page(web, f"{last}/code/tree?path=src/prices.py")).text
    assert "1 import decimal" in text and re.search(r"\d+ return order.total \* 0.9", text)
    raw = await web.get(f"{last}/code/raw?path=src/file1.py")
    assert raw.content == b"value = 1\n" * 2 and raw.headers["content-disposition"].startswith("attachment")
    log = await page(web, f"{last}/code/log")
    assert "Add 1" in log.text and "Prices" in log.text
    address = next(one for one in log.links() if "code/commit?" in one)
    commit = (await page(web, address)).text
    assert "src/file1.py" in commit and "+2" in commit
    # What upstream removed later is there, before it was.
    assert "feature/stock-alerts" in (await page(web, f"{first}/code")).text
    assert "feature/stock-alerts" not in (await page(web, f"{last}/code")).text
    hostile = (await page(web, f"{WEBSITE}/{lived.latest('acme/website').id}/code")).text
    assert 'feature/"><script>alert(1)</script>' in hostile


async def test_a_search_finds_what_was_said_by_then(web: httpx.AsyncClient, lived: Lived) -> None:
    first, last = lived.ids("acme/api")[0], lived.ids("acme/api")[-1]
    found = await page(web, f"{API}/{last}/search?q=round_half_even")
    assert "pull request 3, comment" in found.text and "Should this be" in found.text
    assert f"{API}/{last}/pull-requests/3" in list(found.links())
    assert "Nothing was found" in (await page(web, f"{API}/{first}/search?q=round_half_even")).text
    await page(web, f"{API}/{last}/search?q=x&from=nonsense", 404)
    hostile = await page(web, f"{WEBSITE}/{lived.latest('acme/website').id}/search?q=%3Cscript%3E")
    check_nothing_runs("search", hostile)
    assert SCRIPT in hostile.text
    found = await page(web, f"{API}/{last}/search?q=PRICES")
    assert "src/prices.py" in found.text
    [link] = [one for one in found.links() if "code/tree?" in one]
    assert "import decimal" in (await page(web, unescape(link))).text


async def test_lists_tell_how_many_are_in_each_state_and_can_be_sorted(
    web: httpx.AsyncClient, lived: Lived
) -> None:
    place = f"{WEBSITE}/{lived.latest('acme/website').id}/pull-requests"
    found = await page(web, place)
    first = found.text
    older = lived.ids("acme/website")[-2]
    assert f"{WEBSITE}/{older}/pull-requests" in list(found.links()), "the snapshot before is one step away"
    assert "Open (3)" in first and "Merged (1)" in first and "Superseded (1)" in first
    titles = re.findall(r"A blog|Blog, first try|Dark mode", (await page(web, f"{place}?sort=updated")).text)
    assert sorted(titles) == ["A blog", "Blog, first try", "Dark mode"]
    assert "Updated last" in first


async def test_a_page_with_a_configuration_tells_why_snapshots_are_kept(lived: Lived) -> None:
    config = load_text(
        "store: store\nworkspaces: [{workspace: acme}]\nretention: {keep_last: 2}\n"
        "credential: {kind: api_token, email: ann@acme.example, token: {env: TOKEN}}\n",
        "config.yaml", folder=Path("/etc/mirror"),
    )  # fmt: skip
    ids = lived.ids("acme/api")
    async with client(lived.store, FakeClock(), config=config) as web:
        last = (await page(web, f"{API}/{ids[-1]}")).text
        first = (await page(web, f"{API}/{ids[0]}")).text
        home = (await page(web, API)).text
    assert "Retention kept as" in last and "newest" in last
    assert "Retention is configured." in home and "Retention" in first
    async with client(lived.store, FakeClock()) as web:
        assert "Retention" not in (await page(web, API)).text


async def test_a_file_that_takes_too_much_memory_is_refused(
    web: httpx.AsyncClient, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.browse.repository.code.READ_MAX", 19)
    last = lived.ids("acme/api")[-1]
    monkeypatch.setattr("mirror.git.comparison.Comparer.size", lambda *_: 20)
    for kind in ("tree", "raw"):
        answer = await page(web, f"{API}/{last}/code/{kind}?path=src/file1.py", 404)
        assert "It takes 20 bytes, and a page reads 19 at most" in answer.text
