"""Errors of the git protocol, and the messages of servers in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dulwich.errors import GitProtocolError, HangupException

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed


@contextlib.contextmanager
def protocol_errors() -> Iterator[None]:
    """Convert what dulwich raises, which is anything where a server breaks the protocol, to GitFailed.

    MirrorError, OSError and MemoryError pass.
    """
    try:
        yield
    except (MirrorError, OSError, MemoryError):
        raise
    except Exception as error:
        raise as_mirror_error(error) from error


def as_mirror_error(error: Exception) -> Exception:
    """Convert an error of dulwich or of the protocol to a MirrorError."""
    if isinstance(error, MirrorError):
        return error
    if isinstance(error, HangupException):
        return GitFailed("the git server hung up without an answer")
    if isinstance(error, GitProtocolError) and (detail := clean(str(error))):
        return GitFailed(f"the git server failed: {detail}")
    return GitFailed(f"the git server broke the protocol ({type(error).__name__}): {clean(str(error))}")


def clean(text: str) -> str:
    """The first line of a server's message: its printable characters, at most 200."""
    lines = text.strip().splitlines()
    return "".join(sign for sign in (lines[0] if lines else "") if sign.isprintable())[:200]
