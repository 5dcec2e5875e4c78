"""Looking for a text in a snapshot."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from mirror.browse.find import Matcher
from mirror.browse.repository.code import path_to_text
from mirror.browse.repository.search import NAMES_MAX, File, Files, Piece, search, search_files
from mirror.web.repository.here import At


def show(at: At) -> Response:
    """What was found of the text in the query."""
    text, begin = at.query("q").strip(), at.query("from")
    piece, files = Piece(), Files()
    if text:
        piece = search(at.folder, at.snapshot, Matcher(text), begin)
        if not begin:
            files = search_files(at.folder, at.snapshot, Matcher(text), at.reading.histories)
    return at.render(
        "search-in.html", text=text, piece=piece, files=files, begin=begin, names_max=NAMES_MAX,
        place_of=_place, problems=[*files.damage, *piece.damage],
    )  # fmt: skip


def _place(found: File) -> str:
    """Where a file is shown, below the snapshot."""
    return "code/tree?" + urlencode({"mirror": found.mirror, "path": path_to_text(found.path)})
