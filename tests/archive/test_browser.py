"""A real browser opens the archive from the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.archive.conftest import Made
from tests.archive.reading import Page


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium")
        pytest.skip("chromium is not installed")
    return found


def opened(chromium: str, url: str, profile: Path) -> Page:
    """What a page becomes once the browser has loaded it."""
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--virtual-time-budget=5000", "--dump-dom", url],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    return Page(done.stdout)


def test_a_pull_request_opens_from_the_disk_with_its_style(chromium: str, made: Made, tmp_path: Path) -> None:
    page = opened(chromium, (made.html / "acme/api/pull-requests/3.html").as_uri(), tmp_path)
    assert "Should this be ROUND_HALF_EVEN?" in page.text
    assert "Count money in decimals" in page.text


def test_the_search_finds_a_comment_and_leads_to_it(chromium: str, made: Made, tmp_path: Path) -> None:
    page = opened(chromium, (made.html / "search.html").as_uri() + "#q=ROUND_HALF_EVEN&in=", tmp_path)
    assert "1 page found." in page.text
    assert "acme/api · Pull request #3" in page.text
    assert "acme/api/pull-requests/3.html" in list(page.links())


def test_a_search_in_one_repository_finds_nothing_of_the_others(
    chromium: str, made: Made, tmp_path: Path
) -> None:
    page = opened(
        chromium, (made.html / "search.html").as_uri() + "#q=ROUND_HALF_EVEN&in=acme/website", tmp_path
    )
    assert "Nothing found." in page.text
