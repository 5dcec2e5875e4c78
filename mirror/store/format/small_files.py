"""Reading the store's small JSON files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirror.model import JsonObject, loads
from mirror.store.format.failures import Malformed, StoreDamaged, Unreadable

T = TypeVar("T")


def read_small_file(root: Path, file: str, build: Callable[[JsonObject], T]) -> T:
    """Read the JSON file `file` (relative to the store `root`) and pass it to `build`; returns its result.

    Raises StoreDamaged where the file is missing or no JSON, or where `build` raises ValueError.
    """
    return parse_small_file(read_bytes(root, file), file, build)


def read_bytes(root: Path, file: str) -> bytes:
    """The content of a file that must exist. Raises StoreDamaged where it is missing or unreadable."""
    try:
        return (root / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise StoreDamaged(file, "it is missing") from error
    except OSError as error:
        raise Unreadable(file, error.strerror or str(error)) from error


def parse_small_file(data: bytes, file: str, build: Callable[[JsonObject], T]) -> T:
    """As `read_small_file`, for bytes already read."""
    try:
        value = loads(data)
        if not isinstance(value, dict):
            raise Malformed("it does not hold a JSON object")
        return build(value)
    except (ValueError, OverflowError) as error:  # NotCanonical is a ValueError
        raise StoreDamaged(file, str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(file, f"it is not of its form: {error}") from error
