"""Restrictions of pushes: hidden refs, branch restrictions and size limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dulwich.graph import can_fast_forward
from dulwich.object_store import PackBasedObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import Pack
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import ReceivePackHandler

from mirror.simulator.switches import Switches
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import Token

HIDDEN = b"deny updating a hidden ref"
DECLINED = b"pre-receive hook declined"
ZERO = b"0" * 40
# Pack entry types of commits, trees, blobs and tags: undeltified objects.
_WHOLE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Rules:
    """Limits of one push: the largest pack and file in bytes (None: any), for a token and a repository."""

    push_max: int | None
    file_max: int | None
    repository: GitRepository
    token: Token

    @classmethod
    def of(cls, repository: GitRepository, token: Token, switches: Switches) -> Rules:
        """The rules for pushes of `token` to a repository."""
        sizes = repository.world.sizes if switches.large_pushes_refused else {}
        return cls(sizes.get("push"), sizes.get("file"), repository, token)

    def refusal(self, ref: bytes, *, is_gone: bool, is_forced: bool) -> bytes | None:
        """The reason to refuse the update of a ref, or None."""
        if ref.startswith(b"refs/pull-requests/"):
            return HIDDEN
        kinds = {"push": True, "delete": is_gone, "force": is_forced}
        for one in self.repository.settings.get("branch_restrictions", []):
            if kinds.get(one["kind"]) and self._matches(one, ref) and not self._is_exempt(one):
                return DECLINED
        return None

    def _matches(self, restriction: dict[str, Any], ref: bytes) -> bool:
        pattern: str = restriction.get("pattern") or ""
        name = ref.removeprefix(b"refs/heads/").decode("utf-8", "surrogateescape")
        is_branch = ref.startswith(b"refs/heads/")
        return is_branch and fnmatchcase(name, pattern.replace("[", "[[]"))

    def _is_exempt(self, restriction: dict[str, Any]) -> bool:
        """Whether the user is exempt. The world knows no group members: a group exempts every user."""
        if restriction["kind"] != "push":
            return False
        user = self.token.user
        named = [one.get("@user") for one in restriction["users"]]
        return user is not None and (user.email in named or bool(restriction["groups"]))


def receiver(rules: Rules) -> Callable[..., ReceivePackHandler]:
    """A dulwich handler class for pushes that applies the rules."""

    class Receiver(ReceivePackHandler):
        """Receives a pack, and refuses updates that break a rule."""

        _has_large_file = False

        def _receive_max_input_size(self) -> int | None:
            return rules.push_max

        def _apply_pack(self, refs: list[tuple[ObjectID, ObjectID, Ref]]) -> Iterator[tuple[bytes, bytes]]:
            store = self.repo.object_store
            assert isinstance(store, PackBasedObjectStore)
            before = {one.name() for one in store.packs}
            statuses = super()._apply_pack(refs)
            unpacked = next(statuses)
            yield unpacked
            if unpacked[1] != b"ok":
                yield from ((ref, b"unpacker error") for _, _, ref in refs)
                return
            if rules.file_max is not None:
                new = [one for one in store.packs if one.name() not in before]
                self._has_large_file = any(size > rules.file_max for one in new for size in _sizes(one))
            yield from statuses

        def _on_update(self, ref_name: Ref, old_sha: ObjectID, new_sha: ObjectID) -> bytes | None:
            if self._has_large_file:
                return DECLINED
            is_new, is_gone = old_sha == ZERO, new_sha == ZERO
            is_branch = ref_name.startswith(b"refs/heads/") and not is_new and not is_gone
            is_forced = is_branch and not _moves_on(self.repo, old_sha, new_sha)
            return rules.refusal(ref_name, is_gone=is_gone, is_forced=is_forced)

    return Receiver


def _moves_on(repo: Any, old: ObjectID, new: ObjectID) -> bool:
    assert isinstance(repo, Repo)
    return can_fast_forward(repo, old, new)


def _sizes(pack: Pack) -> Iterator[int]:
    """The sizes of the undeltified objects of a pack."""
    with Path(pack.data.path).open("rb") as file:
        for _, offset, _ in pack.index.iterentries():
            file.seek(offset)
            head = file.read(10)
            size, shift, at = head[0] & 15, 4, 0
            while head[at] & 0x80:
                at += 1
                size |= (head[at] & 0x7F) << shift
                shift += 7
            if (head[0] >> 4) & 7 in _WHOLE:
                yield size
