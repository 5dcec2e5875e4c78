"""git's protocol version 2 for fetching, over the real repositories: `ls-refs` and `fetch`.

dulwich's server speaks versions 0 and 1 alone, so the commands are answered here; the objects are
found, and the pack written, by dulwich.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from dulwich.errors import GitProtocolError
from dulwich.object_filters import filter_pack_objects, parse_filter_spec
from dulwich.object_store import MissingObjectFinder
from dulwich.objects import ObjectID, Tag
from dulwich.pack import write_pack_from_container
from dulwich.protocol import Protocol, pkt_line
from dulwich.refs import Ref
from dulwich.repo import Repo

from mirror.simulator.switches import Switches

DELIMITER = b"0001"
FLUSH = b"0000"


def advertise(switches: Switches) -> bytes:
    """The response to `GET info/refs` for version 2: the capabilities of this server."""
    fetch = b"fetch=shallow filter" if switches.git_filter else b"fetch=shallow"
    lines = [b"version 2", b"agent=git/2.43.0-bitbucket", b"ls-refs=unborn", fetch, b"object-format=sha1"]
    announced = pkt_line(b"# service=git-upload-pack\n") + FLUSH
    return announced + b"".join(pkt_line(line + b"\n") for line in lines) + FLUSH


@dataclass
class _Command:
    name: bytes = b""
    arguments: list[bytes] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """The values of the arguments of a name."""
        return [one[len(name) + 1 :] for one in self.arguments if one.startswith(name + b" ")]


def serve(path: Path, body: bytes, switches: Switches) -> bytes:
    """The response to a POST of one command."""
    command = _Command()
    is_past_capabilities = False
    for line in _lines(body):
        if line is None:
            is_past_capabilities = True
        elif is_past_capabilities:
            command.arguments.append(line)
        elif line.startswith(b"command="):
            command.name = line.removeprefix(b"command=")
    try:
        with Repo(str(path)) as repo:
            if command.name == b"ls-refs":
                return _ls_refs(repo, command)
            if command.name == b"fetch":
                return _fetch(repo, command, switches)
    except (GitProtocolError, KeyError, ValueError) as error:
        return pkt_line(b"ERR upload-pack: " + str(error).encode())
    return pkt_line(b"ERR unknown command " + command.name)


def _lines(body: bytes) -> Iterator[bytes | None]:
    """The lines of a request up to its flush packet; None is a delimiter."""
    at = 0
    while at + 4 <= len(body):
        size = int(body[at : at + 4], 16)
        if size == 0:
            return
        if size == 1:
            yield None
            at += 4
            continue
        if size < 4:
            raise GitProtocolError("bad line")
        yield body[at + 4 : at + size].rstrip(b"\n")
        at += size


def _ls_refs(repo: Repo, command: _Command) -> bytes:
    prefixes = tuple(command.values(b"ref-prefix"))
    wants_peel, wants_symrefs = b"peel" in command.arguments, b"symrefs" in command.arguments
    symrefs = repo.refs.get_symrefs()
    refs = {bytes(name): value for name, value in repo.refs.as_dict().items()}
    out = []
    head = symrefs.get(Ref(b"HEAD"))
    if b"HEAD" not in refs and head is not None and b"unborn" in command.arguments:
        refs[b"HEAD"] = ObjectID(b"unborn")
    for name in sorted(refs, key=lambda one: (one != b"HEAD", one)):
        if prefixes and not name.startswith(prefixes):
            continue
        value = refs[name]
        line = value + b" " + name
        target = symrefs.get(Ref(name))
        if target is not None and wants_symrefs:
            line += b" symref-target:" + target
        if wants_peel and value != b"unborn" and (peeled := _peeled(repo, value)) != value:
            line += b" peeled:" + peeled
        out.append(pkt_line(line + b"\n"))
    return b"".join(out) + FLUSH


def _peeled(repo: Repo, value: ObjectID) -> ObjectID:
    found = repo.object_store[value]
    while isinstance(found, Tag):
        value = found.object[1]
        found = repo.object_store[value]
    return value


def _fetch(repo: Repo, command: _Command, switches: Switches) -> bytes:
    wants = [ObjectID(one) for one in command.values(b"want")]
    tips = set(repo.refs.as_dict().values())
    for one in wants:
        if one not in repo.object_store or (one not in tips and not switches.git_serves_any_hash):
            raise GitProtocolError(f"not our ref {one.decode()}")
    haves = [ObjectID(one) for one in command.values(b"have")]
    common = [one for one in haves if one in repo.object_store]
    out = []
    if b"done" not in command.arguments:
        out.append(pkt_line(b"acknowledgments\n"))
        out += [pkt_line(b"ACK " + one + b"\n") for one in common]
        if not common and haves:
            out.append(pkt_line(b"NAK\n"))
        if not common:
            return b"".join(out) + FLUSH
        out += [pkt_line(b"ready\n"), DELIMITER]
    depth = _depth(repo, command, wants)
    if depth is not None:
        out.append(pkt_line(b"shallow-info\n"))
        out += [pkt_line(b"shallow " + one + b"\n") for one in sorted(depth.ends - depth.shallow)]
        out += [pkt_line(b"unshallow " + one + b"\n") for one in sorted(depth.opened)]
        out.append(DELIMITER)
        # The client has these commits, but not their parents.
        wants += [parent for one in depth.opened for parent in repo.get_parents(one)]
    out.append(pkt_line(b"packfile\n"))
    shallow = {ObjectID(one) for one in command.values(b"shallow")}
    out.append(_pack(repo, command, wants, common, shallow, depth.ends if depth is not None else shallow))
    return b"".join(out) + FLUSH


@dataclass(frozen=True)
class _Depth:
    """Boundaries of a shallow fetch: the new ones, the client's present ones, and which of those end."""

    ends: set[ObjectID]
    shallow: set[ObjectID]
    opened: set[ObjectID]


def _depth(repo: Repo, command: _Command, wants: list[ObjectID]) -> _Depth | None:
    deepen = command.values(b"deepen")
    if not deepen:
        return None
    shallow = {ObjectID(one) for one in command.values(b"shallow")}
    inside: set[ObjectID] = set()
    level = {_peeled(repo, one) for one in wants}
    for _ in range(int(deepen[0]) - 1):
        inside |= level
        level = {parent for one in level for parent in repo.get_parents(one)} - inside
        if not level:
            break
    ends = {one for one in level if repo.get_parents(one)}
    return _Depth(ends, shallow, shallow & inside)


def _pack(
    repo: Repo,
    command: _Command,
    wants: list[ObjectID],
    haves: list[ObjectID],
    shallow: set[ObjectID],
    ends: set[ObjectID],
) -> bytes:
    """The pack. The client's history ends at `shallow`, and the history that it gets at `ends`."""
    finder = MissingObjectFinder(
        repo.object_store,
        haves=haves,
        wants=wants,
        shallow=shallow,
        get_parents=lambda commit: [] if commit.id in ends else commit.parents,
    )
    ids = list(finder)
    if b"include-tag" in command.arguments:
        sent = {one for one, _ in ids}
        values = set(repo.refs.as_dict().values()) - sent
        ids += [(one, None) for one in sorted(values) if _peeled(repo, one) in sent]
    for spec in command.values(b"filter"):
        parsed = parse_filter_spec(spec, object_store=repo.object_store)
        kept = set(filter_pack_objects(repo.object_store, [one for one, _ in ids], parsed))
        ids = [one for one in ids if one[0] in kept]
    pack = BytesIO()
    write_pack_from_container(pack.write, repo.object_store, ids, object_format=repo.object_format)
    out = BytesIO()
    protocol = Protocol(BytesIO().read, out.write)
    if b"no-progress" not in command.arguments:
        protocol.write_sideband(2, f"Counting objects: {len(ids)}, done.\n".encode())
    protocol.write_sideband(1, pack.getvalue())
    return out.getvalue()
