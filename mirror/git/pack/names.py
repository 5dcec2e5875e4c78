"""Which files in a repository's pack folder are packs: only names that git itself gives count.

What a sync tool or a person leaves there (a "conflicted copy", a backup of a pack) is passed over.
"""

from __future__ import annotations

import re
from pathlib import Path

# `git maintenance` calls the packs that it makes of loose objects `loose-`.
_NAME = re.compile(r"(?:pack|loose)-[0-9a-f]{40}")
_HALVES = (".pack", ".idx")


def packs_in(folder: Path) -> list[Path]:
    """The packs in `folder`, sorted: those with a pack's name whose index is there, too."""
    return [pack for pack in _halves(folder, ".pack") if pack.with_suffix(".idx").exists()]


def unkept_packs_in(folder: Path) -> list[Path]:
    """Those of `packs_in` that no `.keep` file protects from being replaced."""
    return [pack for pack in packs_in(folder) if not pack.with_suffix(".keep").exists()]


def packs_without_index(folder: Path) -> list[Path]:
    """The packs in `folder` that lack their index, sorted."""
    return [pack for pack in _halves(folder, ".pack") if not pack.with_suffix(".idx").exists()]


def indexes_without_pack(folder: Path) -> list[Path]:
    """The indexes in `folder` that lack their pack, sorted."""
    return [index for index in _halves(folder, ".idx") if not index.with_suffix(".pack").exists()]


def pack_stems(folder: Path) -> list[str]:
    """The names, without suffix, of all packs of which there is a half at least, sorted."""
    return sorted({half.stem for suffix in _HALVES for half in _halves(folder, suffix)})


def strangers_in(folder: Path) -> list[Path]:
    """The files in `folder` that end as packs and indexes do and are not called as these are, sorted."""
    return sorted(
        path
        for path in _listed(folder)
        if path.suffix in _HALVES and not is_pack_name(path.stem) and not path.name.startswith("tmp_")
    )


def is_pack_name(stem: str) -> bool:
    """Whether git calls packs so; `stem` has no suffix."""
    return _NAME.fullmatch(stem) is not None


def _halves(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in _listed(folder) if path.suffix == suffix and is_pack_name(path.stem))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
