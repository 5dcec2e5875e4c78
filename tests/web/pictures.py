"""Make the pictures of the page for README and docs.

    make pictures

They show a believable store of 500 repositories, of which some need attention.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from mirror.logs import configure
from tests.web.large_world import make_world
from tests.web.served import serve
from tests.web.standing import CONFIG, LiveForTests

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
# By the name of the picture: width, height, colour scheme.
PICTURES = {"page-light": (1080, 700, "light"), "page-dark-phone": (390, 844, "dark")}


def main() -> None:
    """Make them."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure(stream=nowhere)
        store = make_world(Path(folder) / "mirror", runs=200, hours=22, is_hostile=False)
        with (
            serve(store, config=CONFIG, live=LiveForTests("acme/web-api-003")) as served,
            sync_playwright() as started,
        ):
            browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for name, (width, height, scheme) in PICTURES.items():
                page = browser.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme,  # type: ignore[arg-type]
                )  # fmt: skip
                page.goto(served.url)
                page.screenshot(path=FOLDER / f"{name}.png")
            browser.close()


if __name__ == "__main__":
    main()
