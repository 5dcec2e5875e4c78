"""What people wrote, as a restore sends it again: with who wrote it and when, without mentions.

The server would name whoever restores as the author, and send mail to everybody who is mentioned. So each
text begins with a line that says whose it is, by which a later restore finds it, and names stand where
mentions stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.bitbucket.readable.mentions import replace_mentions
from mirror.bitbucket.readable.values import Text
from mirror.model import time_from_text
from mirror.restore.plan.steps import Retry

# Bitbucket publishes no limits. Its sibling for data centers refuses longer comments; descriptions of so many
# characters were taken. A longer text is sent all the same, and cut only where it is refused.
COMMENT_MAX = 32_768
DESCRIPTION_MAX = 250_000
_NOTE = "its end was refused, because it is too long: the backup has it"
_CUT = "\n\n*The text goes on in the backup.*"
_NAME_MAX = 200
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$^!])")
_TICKS = re.compile("`+")


@dataclass(frozen=True)
class Written:
    """A text that is sent, and `cut`, what is sent where the text is too long."""

    text: str
    cut: str | None = None

    def retries(self, field: str) -> tuple[Retry, ...]:
        """How the request is sent again, whose `field` has the text."""
        return () if self.cut is None else (Retry(400, field, _NOTE, self.cut),)


def written(line: str, text: Text, most: int, *, apart: str = "\n\n") -> Written:
    """The text below `line`, or `apart` from it in another way; above `most` characters it may be cut."""
    whole = line + (apart + without_mentions(text) if text else "")
    if len(whole) <= most:
        return Written(whole)
    return Written(whole, whole[: most - len(_CUT)] + _CUT)


def without_mentions(text: Text) -> str:
    """The text with people's names in the place of mentions, so that nobody gets mail."""
    return replace_mentions(text, named)


def named(name: str) -> str:
    """A name as Markdown that means nothing but itself, and mentions nobody."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in name[:_NAME_MAX]).split())
    return _SPECIAL.sub(r"\\\1", line).replace("@", "(at)") or "somebody"


def code(text: str) -> str:
    """A short text, such as a path, as code in Markdown."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    ticks = "`" * (max(map(len, _TICKS.findall(line)), default=0) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def day(time: str) -> str:
    """The day (UTC) of a time, in ISO 8601; what is no time is named as it is."""
    try:
        return time_from_text(time).strftime("%Y-%m-%d")
    except ValueError:
        return named(time) if time else "an unknown day"


def minute(time: str) -> str:
    """The day and minute (UTC) of a time; what is no time is named as it is."""
    try:
        return time_from_text(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return named(time) if time else "at an unknown time"


def counted(number: int, noun: str) -> str:
    """`1 pipeline`, `2 pipelines`, `2 statuses`; of several words the last one is counted."""
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def listed(names: list[str]) -> str:
    """Several names in a sentence."""
    several = [named(one) for one in names]
    return " and ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)
