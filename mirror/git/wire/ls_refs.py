"""ls-refs of protocol version 2: the request, and the refs in its response.

dulwich reads an advertisement line by line from the socket. With 50,000 refs that takes longer than the rest
of a fetch that finds nothing new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from dulwich.protocol import pkt_line

from mirror.git.failures import GitFailed
from mirror.model import Head, Refs

PEELED = b"^{}"


class NotUnderstood(Exception):
    """The response is not one of protocol version 2."""


def request(agent: str) -> bytes:
    """The body of a request for all refs, with the peeled values of tags and the target of HEAD."""
    return b"".join([
        pkt_line(b"command=ls-refs\n"),
        pkt_line(b"agent=%s\n" % agent.encode("ascii")),
        pkt_line(b"object-format=sha1\n"),
        b"0001",
        pkt_line(b"peel\n"),
        pkt_line(b"symrefs\n"),
        pkt_line(None),
    ])  # fmt: skip


def parse(body: bytes) -> Refs:
    """The refs in a response. Raises NotUnderstood, and GitFailed for a malformed object id."""
    refs: dict[bytes, bytes] = {}
    peeled: dict[bytes, bytes] = {}
    symrefs: dict[bytes, bytes] = {}
    at, end = 0, len(body)
    try:
        while True:
            size = int(body[at : at + 4], 16)
            if size == 0:
                break
            if size <= 4 or at + size > end:
                raise NotUnderstood
            line = body[at + 4 : at + size]
            at += size
            if line.endswith(b"\n"):
                line = line[:-1]
            value, name, *traits = line.split(b" ")
            refs[name] = value
            for trait in traits:
                word, _, rest = trait.partition(b":")
                if word == b"peeled":
                    peeled[name] = rest
                elif word == b"symref-target":
                    symrefs[name] = rest
    except ValueError as error:
        raise NotUnderstood from error
    if at + 4 != end:
        raise NotUnderstood
    return refs_of(refs, symrefs, peeled)


def refs_of(refs: Mapping[Any, Any], symrefs: Mapping[Any, Any], peeled: Mapping[Any, Any]) -> Refs:
    """The refs of an advertisement of any protocol version. Raises GitFailed for a malformed object id."""
    values: dict[bytes, str] = {}
    tag_targets = {bytes(name).removesuffix(PEELED): _text(value) for name, value in peeled.items() if value}
    for name, value in refs.items():
        name = bytes(name)
        if name.endswith(PEELED):
            if value is not None:
                tag_targets[name.removesuffix(PEELED)] = _text(value)
        elif value == b"shallow":
            continue  # protocol version 1: a boundary of a shallow repository
        elif name != b"HEAD" and value is not None:
            values[name] = _text(value)
    head: Head | None = None
    target = symrefs.get(b"HEAD")
    if target is not None:
        target = bytes(target)
        head = Head("symref" if target in values else "unborn", target)
    elif (value := refs.get(b"HEAD")) is not None:
        head = Head("detached", bytes(value))
    return Refs(values, head, tag_targets)


def _text(value: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        return bytes(value).decode("ascii")
    raise GitFailed("the server advertises a malformed object id")
