"""`mirror show SELECTOR REF:PATH` prints one file of the code as it was, and never a wrong byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mirror.browse import show_file
from mirror.errors import MirrorError, UsageError
from mirror.model import Selector, name_to_json
from mirror.store.reading.reader import StoreDamaged
from tests.e2e.helpers import json_of, mirror
from tests.extract.made import LFS_OBJECT, Made, blob, commit, flip, pointer_to, sha256, tree
from tests.git.backend import git

pytestmark = pytest.mark.git
API = Selector("acme", "api")
STRANGE = b"refs/heads/caf\xe9"
BYTES = bytes(range(256))


async def fill(made: Made, *, lfs: bool = True) -> dict[str, str]:
    """A repository with files, folders, a link, a submodule, a pull request and a tag; returns its blobs."""
    code = (await made.add("api", 1)).path / "code.git"
    texts = {"a": b"text\n", "bytes": BYTES, "link": b"src/a", "lfs": pointer_to(LFS_OBJECT)}
    blobs = {name: blob(code, text) for name, text in texts.items()}
    src = tree(code, (b"100644", b"a", blobs["a"]), (b"100644", "caf\xe9".encode("latin-1"), blobs["bytes"]))
    top = tree(
        code, (b"100644", b"big.bin", blobs["lfs"]), (b"120000", b"link", blobs["link"]),
        (b"160000", b"module", "1" * 40), (b"40000", b"src", src),
    )  # fmt: skip
    main = commit(code, top)
    pin = commit(code, src, message="a pull request")
    refs = {
        b"refs/heads/main": main,
        STRANGE: commit(code, src),
        b"refs/heads/feature/x": commit(code, src),
        b"refs/tags/v1": main,
    }
    await made.add("api", 1, refs=refs, pins={12: pin}, lfs=lfs)
    return blobs


def shown(made: Made, place: str) -> bytes:
    return b"".join(show_file(made.path, API, place).chunks())


async def test_each_way_to_name_a_file_shows_it(made: Made) -> None:
    await fill(made)
    for ref in ("main", "HEAD", "", "refs/heads/main", "v1", "tags/v1"):
        assert shown(made, f"{ref}:src/a") == b"text\n", ref
    assert shown(made, "feature/x:a") == shown(made, "pull-requests/12:/a") == b"text\n"
    assert shown(made, "main:src/caf\udce9") == BYTES
    # As a list of a folder, or a document, names it.
    encoded = name_to_json(b"src/caf\xe9")
    assert shown(made, f"main:{encoded}") == shown(made, "main:src/base64:Y2Fm6Q==") == BYTES
    assert shown(made, f"{name_to_json(STRANGE)}:a") == b"text\n"
    assert shown(made, "main:link") == b"src/a"
    found = show_file(made.path, API, "main:big.bin")
    assert found.is_lfs and b"".join(found.chunks()) == LFS_OBJECT
    assert show_file(made.path, API, "main:").names == ("big.bin", "link", "module", "src/")
    assert show_file(made.path, API, "main:src/").names == ("a", "base64:Y2Fm6Q==")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mian:src/a", "did you mean main"), ("main:src/b", "has a,"), ("main:scr/a", "did you mean src"),
        ("main:src/a/b", "no such file"), ("main:module/x", "submodule"), ("pull-requests/13:a", "refs.json"),
        ("wiki:main:Home.md", "no wiki"), (f"pull-requests/{'9' * 5000}:a", "no ref"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_said_with_what_is(made: Made, place: str, words: str) -> None:
    await fill(made)
    with pytest.raises(UsageError) as error:
        shown(made, place)
    assert words in f"{error.value.message} {error.value.hint}"


async def test_a_damaged_file_is_never_shown(made: Made) -> None:
    blobs = await fill(made)
    code = made.folder("api").code
    loose = code / "objects" / blobs["a"][:2] / blobs["a"][2:]
    flip(loose, loose.stat().st_size // 2)
    with pytest.raises(StoreDamaged):
        shown(made, "main:src/a")
    loose.unlink()
    with pytest.raises(StoreDamaged, match=blobs["a"]):
        shown(made, "main:src/a")
    path = made.folder("api").lfs_object(sha256(LFS_OBJECT))
    assert path is not None
    flip(path, 77)
    with pytest.raises(StoreDamaged):
        shown(made, "main:big.bin")
    path.unlink()
    with pytest.raises(MirrorError, match="is missing"):
        shown(made, "main:big.bin")


async def test_the_command_prints_the_bytes(made: Made) -> None:
    await fill(made)
    git("repack", "-adq", cwd=made.folder("api").code)
    words = [sys.executable, "-m", "mirror", "show", "--store", str(made.path), "acme/api"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run([*words, "feature/x:caf\udce9"], capture_output=True, check=True, cwd=root)
    assert done.stdout == BYTES
    told = json_of(mirror("show", "--store", str(made.path), "acme/api", "main:src", "--json"))
    assert (told["names"], told["ref"]) == (["a", "base64:Y2Fm6Q=="], "refs/heads/main")
    assert mirror("show", "--store", str(made.path), "acme/api", "main:none").returncode == 2
