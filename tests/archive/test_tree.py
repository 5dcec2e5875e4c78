"""The folder as a whole: every link leads somewhere, twice the same, whole without JavaScript."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mirror.archive import archive
from mirror.archive.pages import Pages
from mirror.archive.writer import _name
from mirror.errors import UsageError
from mirror.model import Selector
from tests.archive.conftest import Made
from tests.archive.reading import is_away, pages, target, tokens
from tests.e2e.helpers import json_of, mirror

FOLDER = "website~12345678"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_link_leads_to_a_file_and_every_page_is_reached(made: Made) -> None:
    found = pages(made.html)
    reached, waiting = set(), ["index.html"]
    while waiting:
        at = waiting.pop()
        if at in reached:
            continue
        reached.add(at)
        for link in found[at].links():
            if is_away(link):
                continue
            path = target(made.html, at, link)
            assert path.is_file(), f"{at} leads to {link}"
            place = str(path.resolve().relative_to(made.html.resolve()))
            name = link.partition("#")[2]
            if name:
                assert name in found[place].ids, f"{at} leads to {link}"
            if path.suffix == ".html":
                waiting.append(place)
    assert reached == set(found)


def test_every_link_of_the_markdown_leads_to_a_file(made: Made) -> None:
    count = 0
    for path in made.markdown.rglob("*.md"):
        for token in tokens(path.read_text(encoding="utf-8")):
            link = str(token.attrs.get("href", ""))
            if link and not is_away(link):
                assert (path.parent / link).is_file(), f"{path} leads to {link}"
                count += 1
    assert count > 100


def test_pages_are_whole_for_screen_readers_and_load_nothing_from_elsewhere(made: Made) -> None:
    for at, page in pages(made.html).items():
        elements = dict(page.elements)
        assert elements["html"]["lang"] == "en" and "main" in elements and "header" in elements
        assert page.headings[0] == 1 and page.headings.count(1) == 1, at
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(after - before <= 1 for before, after in steps), f"{at}: {page.headings}"
        assert len(page.ids) == len(set(page.ids)), at
        for tag, attributes in page.elements:
            labelled = attributes.get("aria-labelledby")
            assert labelled is None or labelled in page.ids, f"{at}: {labelled}"
            assert tag != "nav" or attributes.get("aria-label"), at
            assert tag != "img" or "alt" in attributes, at
            assert "src" not in attributes or not is_away(attributes["src"])
            assert tag != "link" or not is_away(attributes["href"])
            if attributes.get("http-equiv") == "Content-Security-Policy":
                assert attributes["content"].startswith("default-src 'none'")
                assert "unsafe" not in attributes["content"]
                break
        else:
            pytest.fail(f"{at} has no policy")


def test_only_the_search_needs_javascript(made: Made) -> None:
    for at, page in pages(made.html).items():
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        assert not scripts or at == "search.html"
        if at == "search.html":
            assert "needs JavaScript" in page.text


def test_the_same_snapshot_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    for form, before in (("html", made.html), ("markdown", made.markdown)):
        archive(made.store, Selector.parse("acme"), tmp_path / form, form)
        assert files(tmp_path / form) == files(before)


def test_a_folder_that_is_not_empty_is_refused(made: Made, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        archive(made.store, Selector.parse("acme"), tmp_path, "html")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_failing_disk_leaves_nothing(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Pages) -> None:
        raise OSError(28, "No space left on device", str(self.top))

    monkeypatch.setattr(Pages, "write", full)
    with pytest.raises(OSError, match="No space"):
        archive(made.store, Selector.parse("acme"), tmp_path / "new", "html")
    assert list(tmp_path.iterdir()) == []


def test_long_lists_have_pages(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.archive.pages.ROWS_PER_PAGE", 2)
    archive(made.store, Selector.parse("acme/website"), tmp_path / "new", "html")
    found = pages(tmp_path / "new")
    first = found["acme/website/pull-requests/index.html"]
    second = found["acme/website/pull-requests/page-2.html"]
    assert "page-2.html" in list(first.links()) and "index.html" in list(second.links())
    assert [one for one in first.links() if one in ("1.html", "2.html", "3.html")] == ["3.html", "2.html"]
    assert "1.html" in list(second.links())


def test_damage_is_told_and_the_rest_is_there(made: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(made.store, store)
    [log, *_] = sorted(store.glob("workspaces/*/repositories/website~*/files/*/*"))
    log.unlink()
    done = archive(store, Selector.parse("acme/website"), tmp_path / "new", "html")
    [(code, text)] = done[0].problems
    assert code == 4 and "missing" in text and done[0].is_there
    assert log.name.removesuffix(".gz") in (tmp_path / "new/acme/website/index.html").read_text()


def test_a_mirror_that_cannot_be_opened_leaves_the_discussions(made: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(made.store, store)
    [code] = store.glob("workspaces/*/repositories/api~*/code.git")
    shutil.rmtree(code / "objects")
    done = archive(store, Selector.parse("acme/api"), tmp_path / "new", "html")
    assert done[0].is_there and {number for number, _ in done[0].problems} == {4}
    assert "the head of pull request 3 is missing or damaged" in done[0].problems[0][1]
    text = pages(tmp_path / "new")["acme/api/pull-requests/3.html"].text
    assert "Should this be ROUND_HALF_EVEN?" in text and "does not have the commits" in text


@pytest.mark.parametrize(
    ("slug", "name"),
    [("website", "website"), ("..", FOLDER), ("con", FOLDER), ("a/b", FOLDER), ("Upper", FOLDER),
     ("aux.x", FOLDER), ("dot.", FOLDER), ("_workspace", FOLDER)],
)  # fmt: skip
def test_a_name_that_some_disk_does_not_take_is_the_stores(slug: str, name: str) -> None:
    assert _name(slug, FOLDER) == name


def test_the_command(made: Made, tmp_path: Path) -> None:
    words = ("export", "acme/api", "--store", str(made.store))
    done = mirror(*words, "--to", str(tmp_path / "site"), "--format", "html")
    assert done.returncode == 0, done.stderr
    assert "17 pages, 2 files" in done.stdout and "Begin at" in done.stdout
    assert (tmp_path / "site/index.html").is_file()
    told = json_of(mirror(*words, "--to", str(tmp_path / "pages"), "--format", "markdown", "--json"))
    [item] = told["items"]
    assert item["repository"] == "acme/api" and item["is_there"] and item["pages"] == 17
    assert (tmp_path / "pages/README.md").is_file()
    plain = mirror(*words, "--to", str(tmp_path / "plain"))
    assert plain.returncode == 0 and (tmp_path / "plain/metadata/pull-requests").is_dir()
    assert mirror(*words, "--to", str(tmp_path / "x"), "--format", "pdf").returncode == 2
