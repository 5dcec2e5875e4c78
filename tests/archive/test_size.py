"""A repository of 5,000 pull requests: pages are written one by one, and memory stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mirror.model import Json
from tests.extract.made import Made
from tests.git.backend import need_git
from tests.store.helpers import MovedClock

COUNT = 5_000
SENTENCE = "A sentence that somebody wrote about the code, with `code` and **emphasis**. "
PROGRAM = """
import resource, sys
from pathlib import Path
from mirror.archive import archive
from mirror.model import Selector
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
[done] = archive(Path(sys.argv[1]), Selector.parse("acme/large"), Path(sys.argv[2]), "html")
print(done.pages, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def document(number: int) -> Json:
    person = {"display_name": f"Person {number % 20}", "uuid": "{0}"}
    when = "2026-05-01T10:00:00+00:00"
    comments = [
        {"id": number * 10 + at, "content": {"raw": SENTENCE * 5}, "user": person, "created_on": when}
        for at in range(3)
    ]
    return {
        "pull_request": {
            "id": number, "title": f"Change {number}", "state": "MERGED", "author": person,
            "description": SENTENCE * 10, "created_on": when, "updated_on": when,
        },
        "comments": comments, "tasks": [], "activity": [], "statuses": [], "commits": [],
    }  # fmt: skip


async def test_memory_does_not_grow_with_pull_requests(tmp_path: Path) -> None:
    need_git()
    made = Made(tmp_path / "store", MovedClock())
    documents = {
        f"pull-requests/{number // 100}/{number}.json": document(number) for number in range(1, COUNT + 1)
    }
    await made.add("large", 1, documents=documents)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(made.path), str(tmp_path / "site")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pages, grown = map(int, done.stdout.split())
    folder = tmp_path / "site/acme/large/pull-requests"
    assert pages > COUNT and len(list(folder.glob("page-*.html"))) == 24
    # All documents together are some 18 MB, and their pages 40 MB.
    assert grown < 48 * 1024, f"{grown} kB"


pytestmark = [pytest.mark.git, pytest.mark.timeout(600)]
