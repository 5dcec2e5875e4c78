"""The names of files and folders in the store. Paths are relative to the store, or to a folder in it."""

from __future__ import annotations

import re

FORMAT = 1
# The features in `requires` of `store.json` that this version supports.
UNDERSTOOD: frozenset[str] = frozenset()

STORE_FILE = "store.json"
INDEX_FILE = "index.json"
INDEX_PAGE = "INDEX.md"
RUNS = "runs"
# Lists of the repositories that runs processed, each named by its sha256.
LISTS = "runs/lists"
WORKSPACES = "workspaces"
REPOSITORIES = "repositories"
TEMPORARY = "tmp"
QUARANTINE = "quarantine"
CACHE = "cache"
# The lock for changing names, run records or the index; held briefly.
STRUCTURE_LOCK = "tmp/lock"
LAST_RUN = "cache/last-run.json"
# When each folder was last verified, and the progress of an unfinished verification.
VERIFIED = "cache/verified.json"
VERIFYING = "cache/verifying.jsonl"
# What was sent to each copy in object storage, a folder for each address; and what is being sent.
COPIES = "cache/copies"
COPYING, COPYING_LOCK = "tmp/copying-", "lock"

WORKSPACE_FILE = "workspace.json"
REPOSITORY_FILE = "repository.json"
METADATA = "metadata.git"
# Mirrors are named `code`, `wiki` and `snippets/<name>`; their repositories add `.git`.
CODE = "code.git"
WIKI = "wiki.git"
SNIPPETS = "snippets"
FILES = "files"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
# In the folder of a workspace: its unfinished backups (`writing/unfinished_backup.py`).
UNFINISHED_FILE = "unfinished"
# What prune and erase removed, and the brake. They exist only once there is something to record.
PRUNED_FILE = "pruned.json"
DROPPED_FILE = "dropped.json"
ERASURES_FILE = "erasures.json"
BRAKE_FILE = "brake.json"
# The ledger: every snapshot of a folder, kept or removed.
LEDGER_FILE = "snapshots.json"
# All small files of a folder; each has a seal.
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
    """Whether `name` is allowed in the store: lower-case ASCII, at most 100 bytes, not `.` or `..`."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def is_folder_name(name: str) -> bool:
    """Whether `name` is one of a workspace's or repository's folder: a slug, `~`, digits of a uuid."""
    return is_name(name) and _FOLDER.fullmatch(name) is not None


def check_path(path: str) -> str:
    """`path`, the path of a document. Raises ValueError unless each part is an allowed name."""
    if not all(is_name(part) for part in path.split("/")):
        raise ValueError(
            f"{path!r} is not a path in the store: names are [a-z0-9._~-], at most {NAME_MAX} bytes"
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
    """The folder name of a workspace or repository: its first slug, `~`, and the first digits of its uuid.

    Characters that are not allowed become hyphens, and long slugs are cut: the uuid, not the slug, is the
    identity. More than 8 digits are used for uuids that begin alike.
    """
    plain = _FOREIGN.sub("-", slug.lower()) or "unnamed"
    return f"{plain[: NAME_MAX - 1 - 32]}~{uuid_digits(uuid)[:digits]}"


def digits_of(folder: str) -> str | None:
    """The digits of the uuid in a folder name, or None."""
    found = _SUFFIX.search(folder)
    return None if found is None else found.group(1)


def may_belong_to(folder: str, uuid: str) -> bool:
    """Whether the digits in a folder name are those of `uuid`."""
    digits = digits_of(folder)
    return digits is not None and uuid_digits(uuid).startswith(digits)


def slug_of(folder: str) -> str:
    """The slug in a folder name."""
    return _SUFFIX.sub("", folder)


def mirror_place(mirror: str) -> str:
    """The path of a mirror in its folder. Raises ValueError for any other name."""
    if mirror not in ("code", "wiki") and not mirror.startswith(f"{SNIPPETS}/"):
        raise ValueError(f"{mirror!r} is not the name of a mirror")
    return f"{check_path(mirror)}.git"


def stored_file(sha256: str, *, compressed: bool) -> str:
    """The path of a stored file in its folder; `sha256` is that of the plain bytes."""
    return f"{FILES}/{sha256[:2]}/{sha256}{'.gz' if compressed else ''}"


def lfs_object(sha256: str) -> str:
    """The path of an LFS object in its folder."""
    return f"{LFS}/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def run_record(identifier: str) -> str:
    """The path of a run record."""
    return f"{RUNS}/{identifier}.json"


def run_list(sha256: str) -> str:
    """The path of a list that run records name."""
    return f"{LISTS}/{sha256}.json"
