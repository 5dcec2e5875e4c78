"""Names and places in the store. Everything here is relative to the store's root or pure text."""

from __future__ import annotations

import re

FORMAT = 1
# What `requires` in the store's own file may list and this program understands.
UNDERSTOOD: frozenset[str] = frozenset()

STORE_FILE = "store.json"
INDEX_FILE = "index.json"
INDEX_PAGE = "INDEX.md"
RUNS = "runs"
# What runs looked at, each list named by its sha256.
LISTS = "runs/lists"
WORKSPACES = "workspaces"
REPOSITORIES = "repositories"
TEMPORARY = "tmp"
QUARANTINE = "quarantine"
CACHE = "cache"
# Held for moments, by whoever changes names, run records or the index.
STRUCTURE_LOCK = "tmp/lock"
LAST_RUN = "cache/last-run.json"
# When each folder was last verified, and how far an unfinished verification is.
VERIFIED = "cache/verified.json"
VERIFYING = "cache/verifying.jsonl"

WORKSPACE_FILE = "workspace.json"
REPOSITORY_FILE = "repository.json"
METADATA = "metadata.git"
# A mirror is called `code`, `wiki` or `snippets/<name>`; its repository has that name and `.git`.
CODE = "code.git"
WIKI = "wiki.git"
SNIPPETS = "snippets"
FILES = "files"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
# In a workspace's folder: which backups of it are unfinished (`writing/unfinished_backup.py`).
UNFINISHED_FILE = "unfinished"
# What was let go or removed on purpose, and the brake: there only once there is something to say.
PRUNED_FILE = "pruned.json"
DROPPED_FILE = "dropped.json"
ERASURES_FILE = "erasures.json"
BRAKE_FILE = "brake.json"
# Every snapshot of a folder, and whether it is kept.
LEDGER_FILE = "snapshots.json"
# All small files of a folder; each carries its own seal.
SMALL_FILES = (
    WORKSPACE_FILE, REPOSITORY_FILE, LEDGER_FILE, PRUNED_FILE, DROPPED_FILE, ERASURES_FILE, BRAKE_FILE
)  # fmt: skip
LFS = "code.git/lfs/objects"
LFS_PARTS = "code.git/lfs/incomplete"

MAIN = "refs/heads/main"
WORK = "refs/mirror/work"
SNAPSHOT_DOCUMENT = "snapshot.json"
REFS_DOCUMENT = "refs.json"
REFS_DOCUMENTS = "refs/"
LFS_DOCUMENTS = "lfs/"

NAME_MAX = 100

_NAME = re.compile(r"[a-z0-9._~-]{1,100}")
_FOREIGN = re.compile(r"[^a-z0-9._~-]")
_RUN = re.compile(r"\d{8}t\d{6}z-[0-9a-f]{6}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[a-z0-9._~-]+~[0-9a-f]{8,32}")
_SUFFIX = re.compile(r"~([0-9a-f]{8,32})$")


def is_name(name: str) -> bool:
    """Whether `name` may stand in the store: lower-case ASCII, at most 100 bytes, not `.` or `..`."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def is_folder_name(name: str) -> bool:
    """Whether a workspace's or a repository's folder may be called so: a slug, `~`, digits of a uuid."""
    return is_name(name) and _FOLDER.fullmatch(name) is not None


def check_path(path: str) -> str:
    """A document's path, if each of its parts is a name of the store; else ValueError."""
    if not all(is_name(part) for part in path.split("/")):
        raise ValueError(
            f"{path!r} is not a path of the store: names are [a-z0-9._~-], at most {NAME_MAX} bytes"
        )
    return path


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a run id: `20261123t020000z-3f9a2c`."""
    return _RUN.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    """Whether `text` is a sha256 in lower-case hexadecimal."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def uuid_digits(uuid: str) -> str:
    """The 32 hexadecimal digits of a uuid, lower-case, without braces and hyphens."""
    return uuid.strip("{}").replace("-", "").lower()


def folder_name(slug: str, uuid: str, digits: int = 8) -> str:
    """The folder of a thing: its slug when first seen, `~`, and the first digits of its uuid.

    What the store does not allow in names becomes a hyphen, and long slugs are cut: the uuid,
    not the slug, is the identity. More than 8 digits are for uuids that begin alike.
    """
    plain = _FOREIGN.sub("-", slug.lower()) or "unnamed"
    return f"{plain[: NAME_MAX - 1 - 32]}~{uuid_digits(uuid)[:digits]}"


def digits_of(folder: str) -> str | None:
    """The first digits of the uuid in the name of a folder; None where it has none."""
    found = _SUFFIX.search(folder)
    return None if found is None else found.group(1)


def may_belong_to(folder: str, uuid: str) -> bool:
    """Whether a folder of this name may be the one of `uuid`: its digits are those of the uuid."""
    digits = digits_of(folder)
    return digits is not None and uuid_digits(uuid).startswith(digits)


def slug_of(folder: str) -> str:
    """The slug that a folder's name began with."""
    return _SUFFIX.sub("", folder)


def mirror_place(mirror: str) -> str:
    """Where the mirror of this name stands, below its folder; ValueError where no mirror is called so."""
    if mirror not in ("code", "wiki") and not mirror.startswith(f"{SNIPPETS}/"):
        raise ValueError(f"no mirror is called {mirror!r}")
    return f"{check_path(mirror)}.git"


def stored_file(sha256: str, *, compressed: bool) -> str:
    """Where the file of these plain bytes stands, below the repository's folder."""
    return f"{FILES}/{sha256[:2]}/{sha256}{'.gz' if compressed else ''}"


def lfs_object(sha256: str) -> str:
    """Where the LFS object of these bytes stands, below the repository's folder."""
    return f"{LFS}/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def run_record(identifier: str) -> str:
    """Where the record of a run stands, below the store's root."""
    return f"{RUNS}/{identifier}.json"


def run_list(sha256: str) -> str:
    """Where a list that run records name stands, below the store's root."""
    return f"{LISTS}/{sha256}.json"
