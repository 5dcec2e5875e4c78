"""A reader of the store, written from docs/store-format.md with only the standard library and C git."""

import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"(?!\.{1,2}$)[a-z0-9._~-]{1,100}")


def check(good: object, what: object) -> None:
    if not good:
        raise ValueError(f"not as the format says: {what}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git(folder: Path, *words: str | bytes, stdin: bytes = b"", **more: str) -> bytes:
    command = ["git", f"--git-dir={folder}", *words]
    env = {**os.environ, "GIT_NO_REPLACE_OBJECTS": "1", **more}
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True, env=env).stdout


def small(data: bytes) -> Any:
    """A small JSON file or run record. Its seal is the SHA-256 of the file without the line of `sum`."""
    if found := re.search(rb'\n  "sum": "([^"]*)"(,?)(?=\n)', data):
        before = data[: found.start()] if found[2] else data[: found.start()].removesuffix(b",")
        check(sha256(before + data[found.end() :]) == found[1].decode(), "the seal")
    return json.loads(data)


def name(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()


def pointers(value: Any) -> Iterator[str]:
    """The SHA-256 of every stored file that a document points to."""
    if isinstance(value, dict) and value.keys() == {"sha256", "size", "name"}:
        yield value["sha256"]
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from pointers(one)


@dataclass
class Snapshot:
    tree: str
    facts: Any  # its snapshot.json
    documents: dict[str, bytes]  # all documents, by path

    def mirrors(self) -> Iterator[tuple[str, Any, dict[bytes, str]]]:
        """Each mirror whose refs are known: its name, its head and its refs."""
        code = json.loads(self.documents.get("refs.json", b"{}"))
        told = {mirror: ("refs.json", code[mirror]) for mirror in ("code", "wiki") if mirror in code}
        for path, data in self.documents.items():
            if re.fullmatch(r"refs/snippets/[^/]+\.json", path):
                told[path[5:-5]] = path, json.loads(data)["snippet"]
        for mirror, (path, content) in told.items():
            for shard, digest in content.get("sharded", {}).get("files", {}).items():
                check(sha256(self.documents[shard]) == digest, shard)
                for kind, values in json.loads(self.documents[shard]).items():
                    content.setdefault(kind, {}).update(values)
            for kind, count in content.get("sharded", {}).items():
                check(kind == "files" or count == len(content.get(kind, {})), path)
            yield mirror, content["head"], {name(n): v for n, v in content.get("refs", {}).items()}


@dataclass
class Folder:
    path: Path
    record: Any  # its workspace.json or repository.json

    def names(self) -> list[str]:
        """The current name, then the former ones."""
        current = self.record["full_name" if "full_name" in self.record else "slug"]
        return [current, *(former["name"] for former in self.record["former_names"])]

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, in their order."""
        found, metadata = [], self.path / "metadata.git"
        form = "--format=%(refname:lstrip=2) %(tree)"
        tags = git(metadata, "for-each-ref", form, "refs/tags").decode() if metadata.exists() else ""
        for tag, tree in (line.split(" ") for line in tags.splitlines()):
            if re.fullmatch(r"\d{8}T\d{6}Z", tag):
                documents = dict(self.documents(tree))
                facts = json.loads(documents["snapshot.json"])
                check((facts["id"], facts["uuid"]) == (tag, self.record["uuid"]), f"{metadata} {tag}")
                found.append(Snapshot(tree, facts, documents))
        if (ledger := self.path / "snapshots.json").exists():  # from 0.5
            kept = [one for one in small(ledger.read_bytes())["snapshots"] if one["let_go"] is None]
            check({one["id"]: one["tree"] for one in kept} == {s.facts["id"]: s.tree for s in found}, ledger)
        return sorted(found, key=lambda one: int(one.facts["sequence"]))

    def documents(self, tree: str) -> Iterator[tuple[str, bytes]]:
        listed = git(self.path / "metadata.git", "ls-tree", "-r", "-z", tree).split(b"\0")[:-1]
        wanted = b"".join(entry.split()[2] + b"\n" for entry in listed)
        rest = git(self.path / "metadata.git", "cat-file", "--batch", stdin=wanted)
        for path in (entry.partition(b"\t")[2].decode() for entry in listed):
            check(all(NAME.fullmatch(part) for part in path.split("/")), path)
            head, _, rest = rest.partition(b"\n")
            size = int(head.split()[2])
            yield path, rest[:size]
            rest = rest[size + 1 :]

    def file(self, digest: str, place: str = "files") -> bytes:
        """The uncompressed bytes of a stored file."""
        path = self.path / place / digest[:2] / digest
        data = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
        check(sha256(data) == digest, path)
        return data

    def bring_back(self, snapshot: Snapshot, target: Path) -> None:
        """Restore the code to `target`/code.git, and other mirrors, the documents and files beside it."""
        log = self.path / "dropped.json"
        dropped = log.read_text() if log.exists() else ""
        wanted = {f"metadata/{path}": data for path, data in snapshot.documents.items()}
        for data in snapshot.documents.values():
            there = [digest for digest in pointers(json.loads(data)) if digest not in dropped]
            wanted |= {f"files/{digest[:2]}/{digest}": self.file(digest) for digest in there}
        for path, data in wanted.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(data)
        for mirror, head, told in snapshot.mirrors():
            bare, objects = target / f"{mirror}.git", str(self.path / f"{mirror}.git" / "objects")
            bare.parent.mkdir(parents=True, exist_ok=True)
            git(bare, "init", "-q", "--bare")
            [(kind, at)] = (head or {"unborn": "refs/heads/main"}).items()
            refs = {ref: value for ref, value in told.items() if not ref.startswith(b"refs/mirror/")}
            lines = b"".join(b"create %s %s\n" % (ref, value.encode()) for ref, value in refs.items())
            git(bare, "update-ref", "--stdin", stdin=lines, GIT_ALTERNATE_OBJECT_DIRECTORIES=objects)
            point = ("update-ref", "--no-deref") if kind == "detached" else ("symbolic-ref",)
            git(bare, *point, "HEAD", name(at), GIT_ALTERNATE_OBJECT_DIRECTORIES=objects)
            git(bare, "repack", "-a", "-d", "-q", GIT_ALTERNATE_OBJECT_DIRECTORIES=objects)


def folders(store: Path) -> list[Folder]:
    """Every workspace and repository of a store that this reader supports."""
    top = small((store / "store.json").read_bytes())
    check(top["format"] == 1 and not top["requires"], "it needs a newer program")
    files = sorted(store.glob("workspaces/*/workspace.json"))
    files += sorted(store.glob("workspaces/*/repositories/*/repository.json"))
    return [Folder(path.parent, small(path.read_bytes())) for path in files]


def runs(store: Path) -> list[Any]:
    """Run records in the order of writing. Checks that the chain is complete and that the lists they name
    exist."""
    found = {sha256(data): small(data) for data in map(Path.read_bytes, store.glob("runs/*z-??????.json"))}
    after = {record["previous"]: digest for digest, record in found.items()}
    order: list[Any] = []
    last = next((one for one in after if one not in found), None)  # prune may have removed older records
    while last in after:
        last = after[last]
        order.append(found[last])
    check(len(order) == len(found), "the chain of run records")
    for named in {one.get(key) for one in order for key in ("looked_at", "checkpoint")} - {None}:
        check(sha256((store / "runs" / "lists" / f"{named}.json").read_bytes()) == named, named)
    return order
