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
# What a config may say without making git run a program or read from elsewhere: whole sections, and of
# `core` these settings.
_HARMLESS = frozenset({b"gc", b"maintenance", b"transfer", b"pack", b"repack", b"receive", b"index", b"fsck"})
_HARMLESS_CORE = frozenset(
    {b"repositoryformatversion", b"filemode", b"bare", b"logallrefupdates", b"sharedrepository", b"fsync",
     b"fsyncmethod", b"compression", b"ignorecase", b"precomposeunicode", b"symlinks", b"bigfilethreshold",
     b"packedgitlimit", b"packedgitwindowsize", b"deltabasecachelimit", b"multipackindex", b"commitgraph"}
)  # fmt: skip


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


def running_setting(content: bytes) -> str | None:
    """A setting in the config of a repository that may make git run a program or read other files, or None.

    What is not known to be harmless counts.
    """
    section = b""
    for line in content.splitlines():
        text = line.strip()
        if text.startswith(b"["):
            head, _, rest = text[1:].partition(b"]")
            section = head.strip().lower()
            text = rest.strip()
        if not text or text[:1] in b"#;":
            continue
        key = text.partition(b"=")[0].strip().lower()
        harmless = key in _HARMLESS_CORE if section == b"core" else section in _HARMLESS
        harmless = harmless and key != b"recentobjectshook"  # of gc
        if not harmless or text.endswith(b"\\"):
            return f"{section.decode('ascii', 'replace')}.{key.decode('ascii', 'replace')}"
    return None
