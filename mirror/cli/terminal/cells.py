"""Text measured in the cells of a terminal: a wide character takes two, a combining one none."""

from __future__ import annotations

from collections.abc import Iterator

ELLIPSIS = "…"


def width_of(text: str) -> int:
    """How many cells `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # only for names that need it

    return cell_len(text)


def padded(text: str, width: int, *, is_number: bool = False) -> str:
    """`text` with spaces to `width` cells; in front of a number."""
    spaces = " " * (width - width_of(text))
    return spaces + text if is_number else text + spaces


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` cells: of a longer one the middle is left out."""
    if width_of(text) <= width:
        return text
    signs, room = list(_signs(text)), max(width - 1, 0)
    head = _fitting(signs, room - room // 2)
    tail = _fitting(signs[::-1], room // 2)
    return "".join([*head, ELLIPSIS, *reversed(tail)])


def wrapped(text: str, width: int, *, folds: bool = True) -> list[str]:
    """The lines of `text`, of at most `width` cells each, broken between words.

    A longer word is broken where `folds`; else it has a line of its own, which is wider.
    """
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width_of(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line.rstrip())
        *full, line = _folded(word, width) if folds else [word]
        lines += full
    return [*lines, line] if line or not lines else lines


def _folded(word: str, width: int) -> list[str]:
    signs, parts = list(_signs(word)), []
    while signs:
        part = _fitting(signs, width) or signs[:1]
        parts.append("".join(part))
        signs = signs[len(part) :]
    return parts or [""]


def _fitting(signs: list[str], width: int) -> list[str]:
    """As many of `signs`, from the first on, as fit in `width` cells."""
    taken: list[str] = []
    for sign in signs:
        width -= width_of(sign)
        if width < 0:
            break
        taken.append(sign)
    return taken


def _signs(text: str) -> Iterator[str]:
    """Each character with those that combine with it."""
    sign = ""
    for character in text:
        if sign and width_of(character) > 0:
            yield sign
            sign = ""
        sign += character
    if sign:
        yield sign
