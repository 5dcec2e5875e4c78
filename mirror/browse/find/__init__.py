"""Finding a text in all snapshots: in pull requests, issues, comments and the names of files. Only reads."""

from mirror.browse.find.matcher import Matcher
from mirror.browse.find.search import KINDS, Found, Hit, find

__all__ = ["KINDS", "Found", "Hit", "Matcher", "find"]
