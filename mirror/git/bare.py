"""The bare repositories of the store."""

from __future__ import annotations

from pathlib import Path

from mirror.fs.durable import sync_folder, write_file

# No automatic gc or maintenance; our own refs are hidden from clones. Never an extension: dulwich refuses a
# repository with one that it does not know.
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
    """Create a bare repository at `path`, or finish an interrupted creation.

    Existing files stay. config is written last, after HEAD: a repository with a config is finished.
    """
    if (path / "config").is_file():
        return
    for folder in ("", "objects", "objects/pack", "objects/info", "refs", "refs/heads", "refs/tags", "info"):
        (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file survives a power failure only if its folder does.
    for folder in ("objects", "refs", "..", ""):
        sync_folder(path / folder)
    if not (path / "HEAD").exists():
        write_file(path / "HEAD", b"ref: refs/heads/main\n")
    write_file(path / "config", _CONFIG)


def config_fault(content: bytes) -> str | None:
    """What is wrong with the config of a repository of the store, or None. More settings are allowed."""
    missing = set(_CONFIG.splitlines()) - set(content.splitlines())
    return f"lacks the setting {min(missing).decode().strip()}" if missing else None
