"""The pages of a repository in a real browser: every kind of them, on every screen, without a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.web.served import Served, serve
from tests.web.test_browser import look, tab
from tests.web.world import Lived

PAGES = {
    "repository": "/repositories/acme/api",
    "repository-rewritten": "/repositories/acme/website",
    "repository-absent": "/repositories/acme/billing",
    "time-line": "/repositories/acme/api/snapshots",
    "differences": "/repositories/acme/website/compare",
    "no-snapshot": "/repositories/acme/api/20200101T000000Z",
    "workspace": "/workspaces/acme",
    "snippets": "/workspaces/acme/latest/snippets",
    "members": "/workspaces/acme/latest/settings",
    "snapshot": "{website}",
    "pull-requests": "{website}/pull-requests",
    "pull-request": "{api}/pull-requests/3",
    "pull-request-hostile": "{website}/pull-requests/4",
    "pull-request-long": "{website}/pull-requests/5",
    "issues-partial": "{website}/issues",
    "issue": "{api}/issues/1",
    "issue-hostile": "{website}/issues/1",
    "pipelines": "{api}/pipelines",
    "pipeline-hostile": "{website}/pipelines/3",
    "commit-comments": "{api}/commits",
    "settings": "{api}/settings",
    "deployments": "{website}/deployments",
    "downloads": "{api}/downloads",
    "refs": "{website}/code",
    "history": "{api}/code/log",
    "files": "{api}/code/tree",
    "file": "{api}/code/tree?path=src/prices.py",
    "commit": "{api}/code/commit",
    "search": "{website}/search?q=script",
}
# What has all the colours there are.
AT_NIGHT = {"repository-rewritten", "differences", "snapshot", "pull-request", "pipelines", "commit"}


@pytest.fixture(scope="module")
def here(lived: Lived) -> Iterator[Served]:
    with serve(lived.store) as found:
        yield found


def address(here: Served, name: str) -> str:
    base = "/repositories/acme"
    return here.url + PAGES[name].format(api=f"{base}/api/latest", website=f"{base}/website/latest")


def test_every_kind_of_page_is_for_everybody(browser: Browser, here: Served) -> None:
    with tab(browser) as page:
        for name in PAGES:
            page.goto(address(here, name))
            look(page, f"{name}-light")


def test_every_kind_of_page_on_a_phone_at_night(browser: Browser, here: Served) -> None:
    with tab(browser, "night") as page:
        for name in PAGES:
            page.goto(address(here, name))
            if name in AT_NIGHT:
                look(page, f"{name}-night")
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, f"{name} is wider"


def test_somebody_finds_a_lost_branch_at_the_day_before_without_a_script(
    browser: Browser, here: Served
) -> None:
    with tab(browser, script=False) as page:
        page.goto(f"{here.url}/repositories/acme/api")
        page.get_by_label("As of the end of").fill("2026-11-23")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Code", exact=True).click()
        page.get_by_role("link", name="feature/stock-alerts", exact=True).click()
        page.get_by_role("link", name="History", exact=True).click()
        page.get_by_role("table").get_by_role("link").first.click()
        assert page.get_by_role("heading", name="Changes").is_visible()
        page.get_by_role("link", name="Pull requests").click()
        page.get_by_label("State").select_option("OPEN")
        page.get_by_role("button", name="Show").click()
        assert "Count money in decimals" in page.get_by_role("table").inner_text()
        page.get_by_label("Number").fill("3")
        page.get_by_role("button", name="Open").click()
        assert page.get_by_role("heading", name="Count money in decimals").is_visible()
        # The same page at the snapshot before, where it was not yet.
        page.get_by_role("link", name="Older").click()
        assert page.get_by_role("heading", name="There is nothing here").is_visible()
