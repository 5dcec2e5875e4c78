"""Bare repositories as the store keeps them."""

from __future__ import annotations

from pathlib import Path

from mirror.fs.durable import sync_folder, write_file

# Nothing may tidy these repositories on its own; our refs are not offered to those who clone; and
# never an extension, because dulwich refuses a repository with one that it does not know.
_CONFIG = b"""[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
[transfer]
\thideRefs = refs/mirror
"""


def create(path: Path) -> None:
    """Make a bare repository at `path`, or finish one whose making was interrupted.

    What is already there stays. HEAD is written last but one and config last: a repository with a
    config is finished.
    """
    if (path / "config").is_file():
        return
    for folder in ("", "objects", "objects/pack", "objects/info", "refs", "refs/heads", "refs/tags", "info"):
        (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    # What is synced inside a folder survives a power failure only if the folder itself does.
    for folder in ("objects", "refs", "..", ""):
        sync_folder(path / folder)
    if not (path / "HEAD").exists():
        write_file(path / "HEAD", b"ref: refs/heads/main\n")
    write_file(path / "config", _CONFIG)


def config_fault(content: bytes) -> str | None:
    """Why the configuration of a repository of ours is not one, or None. More settings may be there."""
    missing = set(_CONFIG.splitlines()) - set(content.splitlines())
    return f"lacks the setting {min(missing).decode().strip()}" if missing else None
