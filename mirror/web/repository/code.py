"""The code and the wiki at a snapshot: branches and tags, history, folders, files, commits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from mirror.browse.repository.code import Code, Node, Ref, path_from_text, path_to_text
from mirror.browse.repository.documents import absence
from mirror.errors import UsageError
from mirror.git.mirrors.paths import Entry
from mirror.model import is_hash
from mirror.web import filters
from mirror.web.repository.files import lfs_object, picture_type, plain_bytes
from mirror.web.repository.here import At

MIRRORS = ("code", "wiki")
_COMMITS, _REFS = 50, 200
_SHOWN_BYTES_MAX, _SHOWN_LINES_MAX = 512 * 1024, 5_000
_ENTRIES_MAX = 2_000
_MODES = {0o100755: "executable", 0o120000: "symbolic link", 0o160000: "submodule", 0o40000: "", 0o100644: ""}


@dataclass(frozen=True)
class Shown:
    """A mirror that is looked at, at a ref, or at a commit that the ref leads to. `is_led_to`: whether it
    does, as far as was looked."""

    code: Code
    mirror: str
    ref: Ref
    tip: str
    commit: str
    is_led_to: bool = True

    @property
    def pinned(self) -> dict[str, str]:
        """What an address needs to stay at the commit, where that is not the ref's own."""
        return {} if self.commit == self.tip else {"commit": self.commit}

    def files(self, **more: str) -> str:
        """The address of the top folder."""
        return self.address("tree", b"", **more)

    def address(self, page: str, path: bytes | None = None, **more: str) -> str:
        """The address of a page of this mirror below the snapshot."""
        values = {"mirror": self.mirror} if self.mirror != "code" else {}
        values |= {"ref": self.ref.text}
        if path is not None:
            values |= {"path": path_to_text(path)}
        return f"code/{page}?{urlencode(values | more)}"


def _mirror(at: At) -> str:
    name = at.query("mirror") or "code"
    if name not in MIRRORS:
        raise UsageError(f"{name[:40]!r} is not a mirror of a repository", hint="There are code and wiki.")
    return name


def of_code(show: Callable[[At, Shown], Response]) -> Callable[[At], Response]:
    """The handler that shows something of a mirror at a ref, or at the commit of the query."""

    def handler(at: At) -> Response:
        mirror = _mirror(at)
        with Code(at.folder, at.snapshot, mirror, at.reading.histories) as code:
            ref = code.ref(at.query("ref"))
            tip, wanted = code.commit_of(ref.value), at.query("commit")
            if not wanted:
                return show(at, Shown(code, mirror, ref, tip or ref.value, tip or ref.value))
            found = code.held_commit(wanted)
            is_led_to = tip is not None and code.leads_to(tip, found)
            return show(at, Shown(code, mirror, ref, tip or ref.value, found.id, is_led_to))

    return handler


def _context(at: At, shown: Shown | None, mirror: str, **more: Any) -> dict[str, Any]:
    title = "Wiki" if mirror == "wiki" else "Code"
    lacking = absence(at.snapshot.parts.get(mirror), "the wiki" if mirror == "wiki" else "the code")
    return {"shown": shown, "mirror": mirror, "title": title, "lacking": lacking, **more}


def refs(at: At) -> Response:
    """Branches, tags, heads of pull requests and other refs."""
    mirror, skip = _mirror(at), at.number("skip") or 0
    recorded = at.folder.metadata.mirrors(at.snapshot).get(mirror)
    if recorded is None:
        return at.render("refs-at.html", **_context(at, None, mirror), groups=None, head=None, more=0, skip=0)
    with Code(at.folder, at.snapshot, mirror, at.reading.histories) as code:
        several = code.refs()
        piece = several[skip : skip + _REFS]
        groups: dict[str, list[Ref]] = {}
        for one in piece:
            groups.setdefault(one.kind, []).append(one)
        head = code.head()
        shown = Shown(code, mirror, head, head.value, head.value) if head is not None else None
        return at.render(
            "refs-at.html", **_context(at, shown, mirror), groups=groups, head=head, skip=skip,
            total=len(several), rows_max=_REFS, more=max(0, len(several) - skip - _REFS),
            detached=recorded.refs.head,
            counts={kind: sum(one.kind == kind for one in several) for kind in groups},
            of=lambda ref: Shown(code, mirror, ref, ref.value, ref.value),
        )  # fmt: skip


def log(at: At, shown: Shown) -> Response:
    """The commits that a ref leads to, the newest first."""
    skip = at.number("skip") or 0
    code = shown.code
    if not is_hash(shown.commit) or code.commit_of(shown.ref.value) is None:
        raise UsageError(f"{shown.ref.short[:200]} names no commit")
    several, more = code.history(shown.commit).page(skip, _COMMITS, code.commit)
    return at.render(
        "log.html", **_context(at, shown, shown.mirror), commits=[code.commit(one) for one in several],
        skip=skip, more=more, rows_max=_COMMITS,
    )  # fmt: skip


def commit(at: At, shown: Shown) -> Response:
    """A commit, and what it changed."""
    found = shown.code.commit(shown.commit)
    place = f"commit-comments/{found.id[:2]}"
    names = at.folder.metadata.names(at.snapshot, place) if shown.mirror == "code" else {}
    return at.render(
        "code-commit.html", **_context(at, shown, shown.mirror), commit=found,
        changes=shown.code.changes(found), has_remarks=f"{found.id}.json" in names,
    )  # fmt: skip


def tree(at: At, shown: Shown) -> Response:
    """A folder."""
    path = _path(at)
    node = shown.code.node(shown.commit, path)
    if node.entries is None:
        return _file(at, shown, path, node)
    skip = at.number("skip") or 0
    ordered = sorted(node.entries, key=lambda one: (not one.is_folder, one.name))
    piece = ordered[skip : skip + _ENTRIES_MAX]
    return at.render(
        "tree.html", **_context(at, shown, shown.mirror), place=path, crumbs=_crumbs(path),
        entries=[_entry(path, one) for one in piece], more=max(0, len(ordered) - skip - _ENTRIES_MAX),
        skip=skip, rows_max=_ENTRIES_MAX,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """An entry of a folder: `text` is its name, `note` what is special about it."""

    text: str
    path: bytes
    entry: Entry
    note: str


def _entry(path: bytes, one: Entry) -> Row:
    note = _MODES.get(one.mode, f"mode {one.mode:o}")
    if one.is_submodule:
        note = f"submodule at {one.id[:12]}"
    return Row(filters.name(one.name), (path + b"/" if path else b"") + one.name, one, note)


def _crumbs(path: bytes) -> list[tuple[str, bytes]]:
    parts = path.split(b"/") if path else []
    return [(filters.name(part), b"/".join(parts[: place + 1])) for place, part in enumerate(parts)]


def _path(at: At) -> bytes:
    return b"/".join(part for part in path_from_text(at.query("path")).split(b"/") if part)


def _file(at: At, shown: Shown, path: bytes, node: Node) -> Response:
    held = at.folder.lfs_object(node.lfs[0]) is not None if node.lfs is not None else False
    lines: list[str] = []
    is_cut = is_text = False
    if node.lfs is None and not node.is_binary:
        is_text = True
        text = node.content[:_SHOWN_BYTES_MAX].decode("utf-8", "replace")
        lines = text.removesuffix("\n").split("\n") if text else []
        is_cut = len(node.content) > _SHOWN_BYTES_MAX or len(lines) > _SHOWN_LINES_MAX
        lines = lines[:_SHOWN_LINES_MAX]
    return at.render(
        "file.html", **_context(at, shown, shown.mirror), place=path, crumbs=_crumbs(path), node=node,
        is_held=held, lines=lines, is_cut=is_cut, is_text=is_text, is_utf8=_is_utf8(node.content),
        is_picture=picture_type(node.content[:16]) is not None,
        mode=_MODES.get(node.mode, f"mode {node.mode:o}"),
    )  # fmt: skip


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def raw(at: At, shown: Shown) -> Response:
    """A file as it is; of a Git LFS pointer, its object."""
    path = _path(at)
    node = shown.code.node(shown.commit, path)
    if node.entries is not None:
        raise UsageError(f"{os.fsdecode(path)[:200] or '/'} is a folder")
    name = os.fsdecode(path.rpartition(b"/")[2]).encode("utf-8", "replace").decode("utf-8")
    if node.lfs is not None and at.query("pointer") != "yes":
        return lfs_object(at, node.lfs[0], name)
    return plain_bytes(node.content, name)
