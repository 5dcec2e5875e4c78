"""Mentions in texts: `@{ID}`, where the id of a person is an account id or a uuid."""

from __future__ import annotations

import re
from collections.abc import Callable

from mirror.bitbucket.readable.values import Text

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ID = r"(?:UUID|[0-9]{1,20}:UUID|[0-9a-f]{24})".replace("UUID", _UUID)
# Between braces, as Bitbucket's editor writes a mention, or without them.
_MENTION = re.compile(r"@+(?:\{\{?([^{}\s]{1,100})\}?\}|(" + _ID + r")\b)")
_IS_ID = re.compile(_ID)


def replace_mentions(text: Text, shown: Callable[[str], str]) -> str:
    """The text with `shown` of a name, or of an unknown person's id, in the place of each mention. What is
    in such braces and is nobody's id, as `@{/a/path}`, stays."""

    def instead(found: re.Match[str]) -> str:
        key = found[1] or found[2]
        if key in text.people:
            return shown(text.people[key])
        return shown(key) if _IS_ID.fullmatch(key) else found[0]

    return _MENTION.sub(instead, text.raw)
