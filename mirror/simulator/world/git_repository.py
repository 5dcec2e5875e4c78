"""A git repository on disk: its refs, its objects, and its name in Bitbucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from mirror.simulator.world.base import BaseWorkspace, BaseWorld
from mirror.simulator.world.people import User

Person = tuple[str, str]
Changes = dict[tuple[bytes, ...], bytes | None]
# By ref: its hash before and after; None where there is no such ref.
Moves = Mapping[bytes, tuple[str | None, str | None]]
NOBODY: Person = ("Ann Example", "ann@example.org")


@dataclass
class GitRepository:
    """The part of a repository that pull requests, issues and pipelines refer to."""

    workspace: BaseWorkspace
    slug: str
    uuid: str
    git_path: Path
    project: str
    private: bool
    description: str
    created: datetime
    updated: datetime
    parent: GitRepository | None = None
    gone: bool = False
    pipelines_enabled: bool = True
    # Further fields that the API shows: name, language, fork policy.
    details: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    # By commit: statuses that builds reported, and who approved it.
    commit_statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    commit_approvals: dict[str, list[User]] = field(default_factory=dict)

    @property
    def world(self) -> BaseWorld:
        """The world of the workspace."""
        return self.workspace.world

    @property
    def full_name(self) -> str:
        """`workspace/slug`."""
        return f"{self.workspace.slug}/{self.slug}"

    # -- refs

    def refs(self) -> dict[bytes, str]:
        """Every ref with its hash."""
        with Repo(str(self.git_path)) as repo:
            return {
                bytes(name): value.decode("ascii")
                for name, value in repo.refs.as_dict().items()
                if name != b"HEAD"
            }

    def main_branch(self) -> str | None:
        """The branch that HEAD names, where it has a commit."""
        head = (self.git_path / "HEAD").read_bytes().strip()
        if not head.startswith(b"ref: refs/heads/"):
            return None
        name = head.removeprefix(b"ref: refs/heads/").decode("utf-8", "surrogateescape")
        return name if self.has_branch(name) else None

    def has_branch(self, name: str) -> bool:
        """Whether there is a branch of this name."""
        # Called for each of a thousand repositories in a list, so it reads the files and not through dulwich.
        ref = f"refs/heads/{name}"
        return (self.git_path / ref).is_file() or ref.encode("utf-8", "surrogateescape") in self._packed()

    def _packed(self) -> set[bytes]:
        try:
            lines = (self.git_path / "packed-refs").read_bytes().splitlines()
        except FileNotFoundError:
            return set()
        return {line[41:] for line in lines if line[:1] not in (b"#", b"^")}

    def branch(self, name: str) -> str | None:
        """The hash of a branch."""
        with Repo(str(self.git_path)) as repo:
            value = repo.refs.read_ref(Ref(b"refs/heads/" + name.encode()))
        return value.decode("ascii") if value is not None else None

    def set_ref(self, name: bytes, value: str) -> None:
        """Point a ref at a hash, whatever its old value."""
        assert check_ref_format(Ref(name)), name
        with Repo(str(self.git_path)) as repo:
            before = repo.refs.read_ref(Ref(name))
            repo.refs[Ref(name)] = ObjectID(value.encode("ascii"))
        self.moved({name: (before.decode("ascii") if before is not None else None, value)})

    def delete_ref(self, name: bytes) -> None:
        """Remove a ref."""
        with Repo(str(self.git_path)) as repo:
            before = repo.refs[Ref(name)].decode("ascii")
            del repo.refs[Ref(name)]
        self.moved({name: (before, None)})

    def force(self, branch: str, value: str) -> None:
        """Point a branch at another commit, as a force-push does."""
        self.set_ref(b"refs/heads/" + branch.encode(), value)

    def set_head(self, branch: str) -> None:
        """Make a branch the main one."""
        (self.git_path / "HEAD").write_bytes(b"ref: refs/heads/" + branch.encode() + b"\n")

    def moved(self, refs: Moves, actor: User | None = None) -> None:
        """Record that `actor` moved refs: the repository is newer now."""
        del refs, actor
        self.updated = self.world.now()

    def announce_status(
        self, commit: str, status: dict[str, Any], *, is_new: bool = True, actor: User | None = None
    ) -> None:
        """Announce that the build status of a commit is new or has changed."""
        key = "repo:commit_status_created" if is_new else "repo:commit_status_updated"
        self.world.announce(key, self, actor, status=status, commit=commit)

    # -- objects

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes | None],
        message: str,
        *,
        author: Person = NOBODY,
        when: datetime | None = None,
        parents: Sequence[str] | None = None,
    ) -> str:
        """Commit `files` (None removes one) to a branch; returns the hash.

        `parents` are the branch's tip unless given; the first one's files are what is changed.
        """
        ref = b"refs/heads/" + branch.encode()
        moment = when or self.world.now()
        with Repo(str(self.git_path)) as repo:
            tip = self.refs().get(ref)
            above = list(parents) if parents is not None else [tip] if tip is not None else []
            commit = Commit()
            base = None
            if above:
                parent = repo.object_store[ObjectID(above[0].encode())]
                assert isinstance(parent, Commit)
                base = parent.tree
            commit.tree = _tree(repo, base, {tuple(p.encode().split(b"/")): c for p, c in files.items()})
            commit.parents = [ObjectID(one.encode()) for one in above]
            commit.author = commit.committer = f"{author[0]} <{author[1]}>".encode()
            commit.author_time = commit.commit_time = int(moment.timestamp())
            commit.author_timezone = commit.commit_timezone = 0
            commit.message = message.encode()
            repo.object_store.add_object(commit)
            value = commit.id.decode("ascii")
        self.set_ref(ref, value)
        return value

    def tag(self, name: str, target: str, message: str) -> str:
        """An annotated tag of any object, tags included; returns its hash."""
        with Repo(str(self.git_path)) as repo:
            tag = Tag()
            found = repo.object_store[ObjectID(target.encode())]
            tag.object = (type(found), found.id)
            tag.name, tag.message = name.encode(), message.encode()
            tag.tagger = f"{NOBODY[0]} <{NOBODY[1]}>".encode()
            tag.tag_time, tag.tag_timezone = int(self.world.now().timestamp()), 0
            repo.object_store.add_object(tag)
            value = tag.id.decode("ascii")
        self.set_ref(b"refs/tags/" + name.encode(), value)
        return value

    def files(self, commit: str) -> dict[str, bytes | None]:
        """Every file of a commit, as `commit` takes them."""
        found: dict[str, bytes | None] = {}
        with Repo(str(self.git_path)) as repo:

            def walk(tree_id: ObjectID, prefix: str) -> None:
                tree = repo.object_store[tree_id]
                assert isinstance(tree, Tree)
                for entry in tree.iteritems():
                    path = prefix + entry.path.decode()
                    if entry.mode == 0o040000:
                        walk(entry.sha, path + "/")
                    else:
                        found[path] = repo.object_store[entry.sha].as_raw_string()

            top = repo.object_store[ObjectID(commit.encode())]
            assert isinstance(top, Commit)
            walk(top.tree, "")
        return found

    def copy_objects(self, other: GitRepository) -> None:
        """Copy every object that the refs of another repository reach."""
        with Repo(str(other.git_path)) as source, Repo(str(self.git_path)) as target:
            source.fetch(target)


def _tree(repo: Repo, base: ObjectID | None, changes: Changes) -> ObjectID:
    found = repo.object_store[base] if base is not None else Tree()
    assert isinstance(found, Tree)
    tree = found.copy()
    assert isinstance(tree, Tree)
    below: dict[bytes, Changes] = {}
    for path, content in changes.items():
        if len(path) > 1:
            below.setdefault(path[0], {})[path[1:]] = content
        elif content is None:
            if path[0] in tree:
                del tree[path[0]]
        else:
            blob = Blob.from_string(content)
            repo.object_store.add_object(blob)
            tree.add(path[0], 0o100644, blob.id)
    for name, inner in below.items():
        old = tree[name][1] if name in tree and tree[name][0] == 0o040000 else None
        subtree = _tree(repo, old, inner)
        if subtree == Tree().id:
            if name in tree:
                del tree[name]
        else:
            tree.add(name, 0o040000, subtree)
    repo.object_store.add_object(tree)
    return tree.id
