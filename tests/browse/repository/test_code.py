"""The code at a snapshot: what its refs name, with odd names and modes, and told apart from damage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.browse.repository.code import Code, path_from_text, path_to_text
from mirror.browse.repository.history import Histories
from mirror.errors import UsageError
from mirror.store.reading.reader import StoreDamaged
from tests.extract.made import LFS_OBJECT, Made, blob, commit, flip, pointer_to, sha256, tree
from tests.git.backend import git

ODD = b"caf\xe9"


@contextmanager
def opened(made: Made, name: str = "website", mirror: str = "code") -> Iterator[Code]:
    with Code(made.folder(name), made.snapshot(name), mirror, Histories()) as code:
        yield code


async def furnish(made: Made) -> dict[str, str]:
    """Commits with everything odd; returns them by name."""
    path = (await made.add("website", 1)).path / "code.git"
    first = git("rev-parse", "refs/heads/main", cwd=path).strip()
    inner = tree(path, (b"100644", ODD, blob(path, b"odd\n")), (b"100664", b"odd-mode", blob(path, b"old\n")))
    top = tree(
        path, (b"100644", b"base64:x", blob(path, b"named\n")), (b"120000", b"link", blob(path, b"folder/x")),
        (b"100644", b"large.bin", blob(path, pointer_to(LFS_OBJECT))), (b"160000", b"sub", "3" * 40),
        (b"100644", b"zero", blob(path, b"a\0b")), (b"40000", b"\xfffolder", inner),
    )  # fmt: skip
    second = commit(path, top, first, message="Second")
    side = commit(path, top, first, message="Side")
    merge = commit(path, top, second, side, message="Merge")
    stranger = commit(path, top, message="Stranger")
    git("tag", "-a", "v1", "-m", "One", merge, cwd=path)
    await made.add("website", 1, refs={b"refs/heads/main": merge, ODD_REF: second}, pins={7: side}, lfs=True)
    return {"first": first, "second": second, "side": side, "merge": merge, "stranger": stranger}


ODD_REF = b"refs/heads/\xe9"


async def test_refs_are_found_by_every_name_that_people_use(made: Made) -> None:
    ids = await furnish(made)
    with opened(made) as code:
        assert [(one.kind, one.short) for one in code.refs()] == [
            ("branch", "main"), ("branch", "\udce9"), ("tag", "v1"), ("pull request", "#7"),
        ]  # fmt: skip
        assert code.ref("") == code.head() == code.ref("main") == code.ref("refs/heads/main")
        for one in code.refs():
            assert code.ref(one.text) == one
        tag = code.ref("v1")
        assert tag.value != ids["merge"] == code.commit_of(tag.value)
        for text in ("nothing", "base64:!", "../x", "refs/mirror/keep/x", "x\0y"):
            with pytest.raises(UsageError):
                code.ref(text)
    with pytest.raises(UsageError, match="wiki"), opened(made, mirror="wiki"):
        pass


async def test_the_history_goes_as_far_as_the_ref_leads(made: Made) -> None:
    ids = await furnish(made)
    with opened(made) as code:
        read, tip = code.commit, ids["merge"]
        history = code.history(tip)
        several, more = history.page(0, 2, read)
        assert (len(several), more, several[0]) == (2, True, tip)
        rest, more = history.page(2, 50, read)
        assert {*several, *rest} == {ids[name] for name in ("merge", "second", "side", "first")} and not more
        assert history.page(100, 50, read) == ([], False)
        assert code.leads_to(tip, code.held_commit(ids["first"][:9]))
        assert not code.leads_to(tip, code.held_commit(ids["stranger"]))
        with pytest.raises(UsageError):
            code.held_commit("f" * 40)
        changed = code.changes(code.commit(ids["second"]))
        assert "zero" in {one.path for one in changed.files}
        assert len(code.changes(code.commit(ids["first"])).files) == 1


async def test_odd_names_and_modes_are_shown_as_they_are(made: Made) -> None:
    ids = await furnish(made)
    with opened(made) as code:
        top = code.node(ids["merge"], b"")
        assert top.entries is not None
        by_name = {one.name: one for one in top.entries}
        assert by_name[b"sub"].is_submodule and by_name[b"\xfffolder"].is_folder
        inside = code.node(ids["merge"], b"\xfffolder")
        assert inside.entries is not None
        assert [one.mode for one in inside.entries] == [0o100644, 0o100664]
        assert code.node(ids["merge"], b"\xfffolder/" + ODD).content == b"odd\n"
        assert code.node(ids["merge"], b"link").is_link
        assert code.node(ids["merge"], b"zero").is_binary
        assert code.node(ids["merge"], b"large.bin").lfs == (sha256(LFS_OBJECT), len(LFS_OBJECT))
        for path in (b"sub", b"nothing", b"..", b"zero/x", b"a\0b"):
            with pytest.raises(UsageError):
                code.node(ids["merge"], path)


@pytest.mark.parametrize("path", [b"plain", b"a/b c", b"caf\xe9", b"base64:x", b"\0", b""])
def test_every_path_survives_an_address(path: bytes) -> None:
    assert path_from_text(path_to_text(path)) == path


# dulwich holds on to a pack whose object it could not inflate, until it is collected.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_damage_names_the_mirror_and_a_good_copy_is_found(made: Made) -> None:
    ids = await furnish(made)
    pack = made.pack("website")
    copy = Path(f"{pack.parent}/pack-{'0' * 40}.pack")
    copy.write_bytes(pack.read_bytes())
    copy.with_suffix(".idx").write_bytes(pack.with_suffix(".idx").read_bytes())
    for at in range(200, pack.stat().st_size - 20, 20):
        flip(pack, at)
    with opened(made) as code:
        assert code.node(ids["merge"], b"zero").content == b"a\0b"
    copy.unlink()
    with pytest.raises(StoreDamaged, match=r"code\.git"), opened(made) as code:
        code.node(ids["merge"], b"zero")
        code.changes(code.commit(ids["merge"]))
    gc.collect()
