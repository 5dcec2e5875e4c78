"""`mirror find` finds a text wherever it ever stood, and says in which snapshots."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.browse.find import KINDS, Found, Hit, Matcher, find
from mirror.errors import UsageError
from mirror.git.mirrors import names
from mirror.model import Json, Selector
from tests.e2e.helpers import json_of, mirror
from tests.extract.made import Made, blob, commit, flip, tree
from tests.git.backend import need_git
from tests.store.helpers import ACME, START, MovedClock, open_store, take

pytestmark = pytest.mark.git
ANN = {"display_name": "Ann"}


def pull_request(title: str, *comments: str) -> Json:
    said = [
        {"id": number, "user": ANN, "created_on": "2026-01-01", "content": {"raw": text}}
        for number, text in enumerate(comments, 1)
    ]
    return {
        "pull_request": {"id": 12, "title": title, "source": {"branch": {"name": "idea/x"}}},
        "comments": said,
    }


ISSUE: Json = {
    "issue": {"id": 107, "title": "Slow", "content": {"raw": 'It says "payment\nfailed" at night'}},
    "comments": [], "changes": [], "attachments": [{"name": "payment.log"}],
}  # fmt: skip


async def _fill(made: Made) -> None:
    """Three snapshots of acme/api, one of acme/website, one of the workspace."""
    code = (await made.add("api", 1)).path / "code.git"
    text = blob(code, b"text\n")
    src = tree(code, (b"100644", b"Invoice.py", text), (b"100644", b"caf\xe9 invoice", text))
    both = commit(code, tree(code, (b"100644", b"readme", text), (b"40000", b"src", src)))
    other = commit(code, tree(code, (b"100644", b"readme", text)))
    documents: dict[str, Json] = {"issues/1/107.json": ISSUE}
    documents["pull-requests/0/12.json"] = pull_request("Pay", "the payment failed", "straße")
    refs = {b"refs/heads/main": both, b"refs/heads/a-copy": both}
    await made.add("api", 1, refs=refs, documents=documents)
    documents["pull-requests/0/12.json"] = pull_request("Pay", "edited", "straße")
    await made.add("api", 1, refs=dict.fromkeys(refs, other), documents=documents)
    await made.add("website", 2, documents={"pull-requests/0/3.json": pull_request("No payment failed")})
    snippet = {"snippet": {"id": "Xy", "title": "payment failed"}, "files": {}, "comments": []}
    with open_store(made.path) as store:
        await take(store.adopt_workspace(ACME, START), {"snippets/xy.json": snippet}, made.clock)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    need_git()
    found = Made(tmp_path_factory.mktemp("find") / "store", MovedClock())
    asyncio.run(_fill(found))
    return found


@pytest.fixture
def search(made: Made) -> Callable[..., Found]:
    def searched(text: str, *selectors: str, is_regex: bool = False, **options: object) -> Found:
        chosen = [Selector.parse(one) for one in selectors]
        return find(made.path, Matcher(text, is_regex=is_regex), chosen, **options)  # type: ignore[arg-type]

    return searched


def told(found: Found) -> dict[str, Hit]:
    return {f"{one.name}: {one.what}": one for one in found.hits}


def test_a_text_is_found_in_each_kind_of_thing(search: Callable[..., Found]) -> None:
    found = search("Payment Failed")
    assert set(told(found)) == {
        "acme: snippet Xy, title",
        "acme/api: pull request 12, comment 1 by Ann",
        "acme/website: pull request 12, title",
    }
    # Line ends and quotes are as people wrote them, not as JSON has them.
    assert set(told(search('"payment\nfailed"'))) == {"acme/api: issue 107, description"}
    assert found.folders == 3 and found.snapshots == 5 and found.exit_code == 0
    assert set(told(search("payment.log"))) == {"acme/api: issue 107, file payment.log"}
    assert set(told(search("idea/X", "acme/api"))) == {"acme/api: pull request 12, source branch"}
    assert set(told(search("STRASSE"))) == set() and set(told(search("STRAßE"))) != set()


def test_what_a_later_snapshot_no_longer_has_is_found_with_those_that_have_it(
    made: Made, search: Callable[..., Found]
) -> None:
    first, second, third = [one.id for one in made.folder("api").metadata.snapshots()]
    hits = told(search("payment failed", "acme/api"))
    one = hits["acme/api: pull request 12, comment 1 by Ann"]
    assert (one.first, one.last, one.snapshots, one.is_latest) == (second, second, 1, False)
    assert one.path == "pull-requests/12" and one.excerpt == "the payment failed"
    still = told(search("straße"))["acme/api: pull request 12, comment 2 by Ann"]
    assert (still.first, still.last, still.snapshots, still.is_latest) == (second, third, 2, True)
    assert first < second
    assert not search("payment failed", "acme/api", at="latest").hits
    assert search("payment failed", "acme/api", at=second).snapshots == 1


def test_names_of_files_are_found_on_any_branch(search: Callable[..., Found]) -> None:
    hits = told(search("invoice", "acme/api"))
    python = hits["acme/api: file src/Invoice.py"]
    assert (python.path, python.snapshots, python.is_latest) == ("main:src/Invoice.py", 1, False)
    assert len(hits) == 2 and any("base64:" in one.path for one in hits.values())
    # What matches is the name, not only the folder around it; a folder is found itself.
    assert set(told(search("src", "acme/api"))) == {"acme/api: file src/"}
    assert set(told(search("src/inv", "acme/api"))) == {"acme/api: file src/Invoice.py"}
    # A file that is there now, and one of the documents' own.
    assert told(search("readme", "acme/api"))["acme/api: file readme"].is_latest
    assert "acme/api: download build.log" not in told(search("no such file"))


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone(search: Callable[..., Found], kind: str) -> None:
    hits = search("pay|invoice|slow|edited", kinds=[kind], is_regex=True).hits
    assert hits and {one.kind for one in hits} == {kind}


def test_a_regular_expression_and_a_limit(search: Callable[..., Found]) -> None:
    assert len(search("^Pay$", is_regex=True).hits) == 1
    found = search(".", is_regex=True, most=2)
    assert len(found.hits) == 2 and found.is_cut
    assert not search("payment failed", most=3).is_cut
    with pytest.raises(UsageError, match="regular expression"):
        search("(", is_regex=True)
    with pytest.raises(UsageError):
        search("")


@pytest.mark.parametrize("text", ["payment failed", "invoice", "payment.log"])
def test_the_command_that_it_prints_shows_it(made: Made, text: str) -> None:
    done = mirror("find", text, "acme/api", "--store", str(made.path))
    assert done.returncode == 0, done.stderr
    commands = [line.partition("→ mirror ")[2] for line in done.stdout.splitlines() if "→ " in line]
    assert commands
    for line in commands:
        shown = mirror(*shlex.split(line))
        assert shown.returncode == 0, (line, shown.stderr)
        assert shown.stdout


def test_nothing_found_is_no_failure(made: Made) -> None:
    done = mirror("find", "nowhere at all", "--store", str(made.path))
    assert done.returncode == 0 and "Found nothing in 5 snapshots" in done.stdout
    found = json_of(mirror("find", "nowhere at all", "--store", str(made.path), "--json"))
    assert (found["hits"], found["exit_code"], found["schema"]) == ([], 0, 1)
    assert mirror("find", "x", "--in", "nothing", "--store", str(made.path)).returncode == 2
    assert mirror("find", "x", "--at", "2001-01-01", "--store", str(made.path)).returncode == 2


def test_a_tree_without_end_ends_the_search_of_one_commit(
    made: Made, search: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "NAMES_MAX", 1)
    found = search("invoice", "acme/api")
    assert found.exit_code == 4 and "too many files" in found.problems[0][1]


async def test_what_is_damaged_is_told_and_the_rest_is_found(tmp_path: Path) -> None:
    need_git()
    made = Made(tmp_path / "store", MovedClock())
    await made.add("api", 1, documents={"pull-requests/0/12.json": pull_request("payment failed")})
    await made.add("website", 2, documents={"pull-requests/0/12.json": pull_request("payment failed")})
    [pack, *_] = sorted((made.path / made.folder("api").place / "metadata.git/objects/pack").glob("*.pack"))
    flip(pack, pack.stat().st_size // 2)
    done = mirror("find", "payment failed", "--store", str(made.path), "--json")
    found = json_of(done)
    assert done.returncode == 4 and found["problems"]
    assert "acme/website" in {one["name"] for one in found["hits"]}
