"""What is looked for, and the words around a place where it stands."""

from __future__ import annotations

import json
import re

from mirror.errors import UsageError

# So many characters of a text are shown before and after what was found.
AROUND = 40


class Matcher:
    """Looks for `text`, whatever the case of its letters; with `is_regex` it is a regular expression of
    Python. Raises UsageError where it is none, or empty."""

    def __init__(self, text: str, *, is_regex: bool = False) -> None:
        if not text:
            raise UsageError("there is nothing to look for", hint="give a text, such as 'payment failed'")
        try:
            self._pattern = re.compile(text if is_regex else re.escape(text), re.IGNORECASE)
        except re.error as error:
            raise UsageError(
                f"{text!r} is no regular expression: {error}", hint="leave out --regex to look for just that"
            ) from None
        escaped = json.dumps(text, ensure_ascii=False)[1:-1]
        self._in_json = None if is_regex else re.compile(re.escape(escaped), re.IGNORECASE)

    def may_be_in(self, document: bytes) -> bool:
        """Whether a text of a JSON document may have it. Quick: the document is not parsed."""
        return self._in_json is None or self._in_json.search(document.decode("utf-8", "replace")) is not None

    def excerpt(self, text: str) -> str | None:
        """The words around the first place in `text` that has it, on one line; None where none has."""
        found = self._pattern.search(text)
        if found is None:
            return None
        begin, end = max(0, found.start() - AROUND), min(len(text), found.end() + AROUND)
        end = min(end, begin + 6 * AROUND)  # a regular expression may match a whole page
        words = " ".join(text[begin:end].split())
        return f"{'…' if begin else ''}{words}{'…' if end < len(text) else ''}"

    def is_in_name(self, path: str, folder: int) -> bool:
        """Whether the name of a file has it: a match in `path` that ends in the name, which begins after
        `folder` characters."""
        return any(one.end() > folder for one in self._pattern.finditer(path))
