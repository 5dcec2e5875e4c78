"""The page in a real browser: for everybody, on every screen, without a request to elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.web.helpers import TOKEN, make_store
from tests.web.large_world import HOSTILE
from tests.web.served import Served, serve

# Screens: width and colour scheme.
SCREENS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (320, "light"), "night": (320, "dark")}
PAGES = {
    "overview": "/", "runs": "/runs", "running": "/running", "nothing": "/nothing",
    "elsewhere": "/repositories/acme/tools",
}  # fmt: skip
# The parts of addresses that are not on one line although they are not wider than it.
BROKEN_ADDRESSES = """[...document.querySelectorAll('.part')].filter(one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getClientRects().length > 1 && one.offsetWidth < one.parentElement.offsetWidth;
}).map(one => one.innerText)"""
# CI keeps what it finds here.
ARTEFACTS = os.environ.get("MIRROR_ARTIFACTS")


@contextmanager
def tab(browser: Browser, screen: str = "light", *, script: bool = True) -> Iterator[Page]:
    """A new page in a clean profile; fails where it asks elsewhere or breaks the security policy."""
    width, scheme = SCREENS[screen]
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )  # fmt: skip
    context.set_default_timeout(120_000)  # in milliseconds, for machines that do much else
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda one: said.append(str(one)))
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    yield page
    context.close()
    # A browser reports each status of 400 and above, which some tests are about.
    assert [one for one in said if "the server responded with a status of" not in one] == []
    assert {one.split("/")[2].partition(":")[0] for one in asked} <= {"127.0.0.1"}


def look(page: Page, name: str) -> None:
    """What holds on every page: axe finds nothing, nothing is wider than the screen, one main heading."""
    if ARTEFACTS is not None:
        folder = Path(ARTEFACTS) / "page"
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.viewport_size
    assert width is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= width["width"], "wider than the screen"
    assert page.locator("h1").count() == 1
    captions = page.evaluate(
        "[...document.querySelectorAll('caption:not(.hidden)')]"
        ".filter(one => one.offsetHeight > one.offsetWidth).map(one => one.innerText)"
    )
    assert captions == [], "a caption with a letter on each line"
    assert page.evaluate(BROKEN_ADDRESSES) == [], "an address is broken inside a word"


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_on_every_screen(browser: Browser, served: Served, screen: str) -> None:
    with tab(browser, screen) as page:
        for name, path in PAGES.items():
            page.goto(served.url + path)
            look(page, f"{name}-{screen}")
        page.goto(served.url + "/runs?kind=backup")
        page.locator("table.list th a").first.click()
        page.get_by_role("heading", name="Backup: much lost upstream").wait_for()
        look(page, f"run-{screen}")


@pytest.mark.parametrize("screen", ["light", "night"])
def test_pages_of_what_is_not_there(browser: Browser, tmp_path: Path, screen: str) -> None:
    with tab(browser, screen) as page:
        with serve(make_store(tmp_path / "empty"), token=TOKEN) as served:
            page.goto(served.url)
            look(page, f"sign-in-{screen}")
            page.fill("#token", "wrong")
            page.keyboard.press("Enter")
            page.get_by_role("alert").wait_for()
            look(page, f"sign-in-refused-{screen}")
            page.fill("#token", TOKEN)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Nothing is backed up yet.").wait_for()
            look(page, f"empty-{screen}")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("heading", name="Sign in").wait_for()
        with serve(tmp_path / "gone") as served:
            page.goto(served.url)
            assert "There is no store" in page.inner_text("h1")
            look(page, f"gone-{screen}")


def test_the_failing_ones_and_their_reasons_are_in_the_first_look(browser: Browser, served: Served) -> None:
    with tab(browser) as page:
        page.goto(served.url)
        seen = page.viewport_size
        assert seen is not None
        for words in ("need attention", "acme/web-reports-007", "the server sent a pack that ends early"):
            box = page.get_by_text(words).first.bounding_box()
            assert box is not None and box["y"] + box["height"] <= seen["height"], words


def test_hostile_texts_are_texts(browser: Browser, served: Served) -> None:
    with tab(browser) as page:
        for path in ("/", "/runs", "/running", f"/?q={HOSTILE}"):
            page.goto(served.url + path)
            assert page.title() != "owned"
        assert page.locator("#q").input_value() == HOSTILE
        page.goto(served.url)
        assert HOSTILE in page.inner_text("main")


def test_the_page_is_whole_without_scripts(browser: Browser, served: Served) -> None:
    with tab(browser, script=False) as page:
        page.goto(served.url)
        page.select_option("#show", label="Needs attention")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**show=attention**")
        page.fill("#q", "web-reports")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=web-reports**")
        assert page.locator("tbody th a").all_inner_texts() == ["acme/web-reports-007"]
        page.goto(served.url + "/running")
        page.get_by_role("link", name="Look again").click()
        assert "131 of 500" in page.inner_text("main")


def test_a_keyboard_reaches_everything_and_sees_where_it_is(browser: Browser, served: Served) -> None:
    with tab(browser) as page:
        page.goto(served.url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached: list[str] = []
        for _ in range(60):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                "(() => { const one = document.activeElement;"
                " return [one.id || one.textContent.trim(), getComputedStyle(one).outlineStyle]; })()"
            )
            assert outline != "none", f"{name} has the focus, and nobody sees it"
            reached.append(name)
            if name == "sort":
                break
        assert {"acme/web-reports-007", "As a table", "q", "show", "sort"} <= set(reached)


def test_what_runs_is_looked_at_again_by_the_script(browser: Browser, served: Served) -> None:
    with tab(browser) as page:
        page.clock.install()
        page.goto(served.url + "/running")
        page.evaluate("document.querySelector('#running').textContent = 'old'")
        with page.expect_response("**/running"):
            page.clock.run_for(5000)
        page.get_by_text("131 of 500").wait_for()
