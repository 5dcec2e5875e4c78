"""Whatever anybody wrote upstream stays text, and no name leads out of the folder."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.archive import text as texts
from mirror.archive.files import file_name
from mirror.archive.text import fenced, is_safe, to_html, to_inline, to_quote
from mirror.bitbucket.readable.values import Text
from mirror.simulator import World
from tests.archive.conftest import Made, make
from tests.archive.reading import Page, is_away, pages, tokens

RTL = "\u202egnp.exe\u202c"
SCRIPT = "<script>alert('owned')</script>"
TEXTS = [
    SCRIPT,
    "<img src=x onerror=alert('owned')>",
    "<IMG SRC=x\nONERROR=alert('owned')//",
    "<svg/onload=alert('owned')>",
    "</textarea></pre></code></title></style></article></main><h1>Owned</h1>",
    "[click](javascript:alert('owned'))",
    "[click](JaVaScRiPt&colon;alert('owned'))",
    "[click](java\tscript:alert('owned'))",
    "<javascript:alert('owned')>",
    "[click][ref]\n\n[ref]: javascript:alert('owned')",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[click](vbscript:msgbox) [click](file:///etc/passwd) [click](//evil.example/x)",
    "[click](../../../../etc/passwd)",
    "![beacon](https://evil.example/pixel.png)",
    '![x](https://evil.example/"onerror="alert(1))',
    "<!-- \n\n--> <![CDATA[ <b>x</b> ]]> <?php echo 1 ?>",
    "```\n</pre><script>alert('owned')</script>\n",
    "``` <script>\n~~~",
    "> > > > > `unclosed",
    "| a | b |\n|---|---|\n| <b onclick=alert(1)>x</b> | [y](javascript:1) |",
    "{{ 7 * 7 }} {% include '/etc/passwd' %} {# #}",
    "&lt;script&gt;alert('owned')&lt;/script&gt;",
    f"Please run {RTL}",
    "nul \x00 bell \x07 escape \x1b[31m lone \ud800 surrogate",
    "# Heading\n\n# Another",
    "<details><summary>Open</summary>\n\ninside</details>",
]
LONG = "word " * 200_000  # a megabyte
NAMES = [
    "../../../../tmp/owned.txt",
    "..\\..\\owned.bat",
    "evil.html",
    "picture.svg",
    "con",
    "a b.html",
    ".htaccess",
]


def hostile(world: World) -> None:
    eve = world.users["eve@acme.example"]
    eve.name = f"Eve {SCRIPT}{RTL}"
    acme = world.workspaces["acme"]
    website = acme.repositories["website"]
    website.description = f"{SCRIPT} [x](javascript:alert(1))"
    with world.at(datetime(2026, 5, 1, tzinfo=UTC)):
        branch = 'feature/"><script>alert(1)</script>'
        path = 'src/"><img src=x onerror=alert(1)>.py'
        base = website.branch("main")
        assert base is not None
        lines = "".join(f"{one!r}\n" for one in TEXTS) + f"safe = True  # {RTL}\n"
        website.commit(
            branch, {path: lines.encode("utf-8", "replace"), "plain.txt": b"x\n"},
            f"{SCRIPT}\n\n{SCRIPT}\n", author=(eve.name, eve.email), parents=[base],
        )  # fmt: skip
        pull = website.open_pull_request(
            source=branch, title=SCRIPT, author=eve, description="\n\n".join(TEXTS)
        )
        for number, text in enumerate(TEXTS):
            where = {"path": path, "from": None, "to": number + 1} if number % 2 else None
            comment = pull.comment(text, author=eve, inline=where)
            pull.add_task(text, author=eve, comment=comment if number % 3 else None)
        for place in ("../../../etc/passwd", "/etc/passwd", "no\x00where"):
            pull.comment("Elsewhere", author=eve, inline={"path": place, "from": None, "to": 1})
        pull.add_status(SCRIPT, url="javascript:alert('owned')")
        pull.decline(author=eve, reason=SCRIPT)
        website.commit("long", {"long.txt": b"x\n"}, "Long\n")
        website.open_pull_request(source="long", title=LONG, author=eve, description=LONG)
        website.open_pull_request(
            source="long", title=f"{RTL} \ufdfa مرحبا", author=eve, description="שלום **עולם**"
        )
        issue = website.add_issue(SCRIPT, author=eve, content="\n\n".join(TEXTS), comments=TEXTS)
        for name in NAMES:
            issue.attach(name, f"{SCRIPT}{name}".encode())
        website.upload("download.html", SCRIPT.encode())
        built = website.add_pipeline(
            steps=[(SCRIPT, f"{SCRIPT}\n</pre>{RTL}\x1b[31m\n".encode())], result="FAILED"
        )
        built.steps[0].tests = {SCRIPT: f"</pre>{SCRIPT}"}
        website.comment_on_commit(base, TEXTS[5], author=eve)
        website.settings["hooks"] = [{"description": SCRIPT, "url": "javascript:alert(1)"}]
        acme.add_snippet(f"{SCRIPT}", {"index.html": SCRIPT.encode(), "x.svg": SCRIPT.encode()}, author=eve)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("hostile"), hostile)


def check(at: str, page: Page) -> None:
    """No element, attribute or link of a page is anybody's but the archive's own."""
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "form", "svg", "base", "style", "video") or (
            tag == "form" and at == "search.html"
        ), f"{at}: <{tag}>"
        if tag == "script":
            assert at == "search.html" and attributes["src"] in ("search.js", "search-list.js")
        assert not {name for name in attributes if name.startswith("on")} | attributes.keys() & {"style"}, at
    for link in page.links():
        if is_away(link):
            assert is_safe(link), f"{at}: {link}"
            assert not link.startswith("https://evil") or "rel" in str(page.elements)
        assert not link.startswith(("/", "\\")), f"{at}: {link}"
    assert all(attributes.get("src", "").count(":") == 0 for _, attributes in page.elements)


def test_hostile_texts_stay_texts(evil: Made) -> None:
    found = pages(evil.html)
    for at, page in found.items():
        check(at, page)
        assert page.headings.count(1) == 1, at
    shown = found["acme/website/pull-requests/4.html"].text
    for text in (SCRIPT, "<img src=x onerror=alert('owned')>", "{{ 7 * 7 }}", "<details>"):
        assert shown.count(text) >= 3, text
    assert "⟦U+202E⟧" in shown
    assert found["acme/website/issues/1.html"].text.count(SCRIPT) >= 3
    assert found["acme/website/pipelines/3.html"].text.count(SCRIPT) >= 3


def test_a_title_of_a_megabyte_is_cut_in_lists_and_whole_on_its_page(evil: Made) -> None:
    page = (evil.html / "acme/website/pull-requests/5.html").read_text()
    assert LONG.strip() in page
    assert (evil.html / "acme/website/pull-requests/index.html").stat().st_size < 30_000
    assert (evil.html / "acme/website/search-index.js").stat().st_size < 400_000


def test_nothing_is_written_outside_the_folder_nor_as_something_that_runs(evil: Made) -> None:
    for folder, form in ((evil.html, "html"), (evil.markdown, "md")):
        for path in folder.rglob("*"):
            assert path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink()
            assert re.fullmatch(r"[A-Za-z0-9._~-]{1,200}", path.name), path.name
            if path.is_file() and path.parent.name == "files":
                assert path.suffix in (".txt", ".bin", ".pdf", ".png", ".csv"), path.name
            elif path.is_file():
                assert path.suffix in (f".{form}", ".js", ".css")
    # Bitbucket gives nothing of a name with a slash.
    names = [name for name in NAMES if not {"/", "\\"} & set(name)]
    assert len(list((evil.html / "acme/website/files").iterdir())) == len(names) + 2


def test_markdown_has_no_html_and_no_other_links(evil: Made) -> None:
    for path in evil.markdown.rglob("*.md"):
        for token in tokens(path.read_text(encoding="utf-8")):
            assert token.type not in ("html_block", "html_inline", "image"), f"{path}: {token.content}"
            link = str(token.attrs.get("href", ""))
            assert not is_away(link) or is_safe(link), f"{path}: {link}"
            assert not link.startswith("/")
    text = (evil.markdown / "acme/website/pull-requests/4.md").read_text()
    assert text.count("alert('owned')") >= 20


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_alone(text: str) -> None:
    page = Page(str(to_html(Text(text))))
    assert not {tag for tag, _ in page.elements} & {"script", "img", "svg", "h1", "details"}
    assert all(is_safe(link) for link in page.links())
    for source in (to_quote(Text(text)), f"# {to_inline(text)}", f"| {to_inline(text)} |", fenced(text)):
        for token in tokens(source):
            assert token.type not in ("html_block", "html_inline", "image")
            assert all(is_safe(str(token.attrs[name])) for name in ("href", "src") if name in token.attrs)


def test_what_takes_a_renderer_long_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_renderer", lambda: pytest.fail("it was rendered"))
    assert str(to_html(Text("[" * 70_000))).startswith('<pre tabindex="0">[[[')
    assert to_quote(Text("[" * 70_000)).startswith("> ```")


@pytest.mark.parametrize("text", ["[" * 20_000, "![" * 10_000, "*a _b " * 4_000, "> " * 10_000, "`" * 20_000])
def test_hostile_markup_does_not_take_forever(text: str) -> None:
    assert to_html(Text(text))  # the time limit of every test holds it


def test_mentions_become_names() -> None:
    gone = "5b10a2844c20165700ede21f"
    text = Text(f"@{{557058:abc}} and @{{{gone}}} in @{{/path}}", {"557058:abc": "Ann <b>Archer</b>"})
    shown = f"<p>@Ann &lt;b&gt;Archer&lt;/b&gt; and @{gone} in @{{/path}}</p>\n"
    assert str(to_html(text)) == shown


@pytest.mark.parametrize(
    ("name", "ending"),
    [("é.md", ".txt"), ("a.png", ".png"), ("x.PNG", ".png"), ("page.html", ".bin"), ("a.svg", ".bin"),
     ("none", ".bin"), ("build.log", ".txt"), ("..", ".bin"), ("../../x.pdf", ".pdf"),
     ("a" * 500 + ".zip", ".zip")],
)  # fmt: skip
def test_names_of_files(name: str, ending: str) -> None:
    found = file_name("0" * 64, name)
    assert re.fullmatch(r"0{16}-[A-Za-z0-9_][A-Za-z0-9._-]*", found) and len(found) < 120
    assert Path(found).suffix == ending
