"""Which files in a pack folder are packs: only those with names that git itself gives.

What a sync tool or a person leaves there (a "conflicted copy", a backup of a pack) is ignored.
"""

from __future__ import annotations

import re
from pathlib import Path

# `git maintenance` calls the packs that it makes of loose objects `loose-`.
_NAME = re.compile(r"(?:pack|loose)-[0-9a-f]{40}")
_SUFFIXES = (".pack", ".idx")


def packs_in(folder: Path) -> list[Path]:
    """The packs in `folder` that have an index, sorted."""
    return [pack for pack in _named(folder, ".pack") if pack.with_suffix(".idx").exists()]


def unkept_packs_in(folder: Path) -> list[Path]:
    """Those of `packs_in` that no `.keep` file protects from being replaced."""
    return [pack for pack in packs_in(folder) if not pack.with_suffix(".keep").exists()]


def packs_without_index(folder: Path) -> list[Path]:
    """The packs in `folder` that lack their index, sorted."""
    return [pack for pack in _named(folder, ".pack") if not pack.with_suffix(".idx").exists()]


def indexes_without_pack(folder: Path) -> list[Path]:
    """The indexes in `folder` that lack their pack, sorted."""
    return [index for index in _named(folder, ".idx") if not index.with_suffix(".pack").exists()]


def pack_stems(folder: Path) -> list[str]:
    """The names, without suffix, of all packs and indexes, sorted."""
    return sorted({file.stem for suffix in _SUFFIXES for file in _named(folder, suffix)})


def misnamed_packs_in(folder: Path) -> list[Path]:
    """The files in `folder` with the suffix of a pack or index and another name than git gives, sorted."""
    return sorted(
        path
        for path in _files(folder)
        if path.suffix in _SUFFIXES and not is_pack_name(path.stem) and not path.name.startswith("tmp_")
    )


def is_pack_name(stem: str) -> bool:
    """Whether `stem`, a name without suffix, is one that git gives to packs."""
    return _NAME.fullmatch(stem) is not None


def _named(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in _files(folder) if path.suffix == suffix and is_pack_name(path.stem))


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
