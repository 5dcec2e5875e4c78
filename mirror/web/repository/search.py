"""Looking for a text in a snapshot."""

from __future__ import annotations

from starlette.responses import Response

from mirror.browse.find import Matcher
from mirror.browse.repository.search import Piece, search
from mirror.web.repository.here import At


def show(at: At) -> Response:
    """What was found of the text in the query."""
    text, begin = at.query("q").strip(), at.query("from")
    piece = search(at.folder, at.snapshot, Matcher(text), begin) if text else Piece()
    return at.render("search-in.html", text=text, piece=piece, begin=begin, problems=list(piece.damage))
