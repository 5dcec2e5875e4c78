"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

from mirror.errors import UsageError


def confirm(question: str) -> None:
    """Ask a yes-or-no question. Raises UsageError where the answer is not yes, or stdin is no terminal."""
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, and stdin is no terminal", hint="add --yes to skip it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was written")
