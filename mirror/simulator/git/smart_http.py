"""The smart HTTP protocol, served by dulwich over the real repositories."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import cast

from dulwich.errors import GitProtocolError
from dulwich.protocol import CAPABILITY_FILTER, ReceivableProtocol, pkt_line
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, Handler, ReceivePackHandler, UploadPackHandler

from mirror.simulator.git.push import Rules, receiver
from mirror.simulator.switches import Switches


class _WithoutFilter(UploadPackHandler):
    def capabilities(self) -> list[bytes]:
        """The capabilities, without `filter`."""
        return [one for one in super().capabilities() if one != CAPABILITY_FILTER]


SERVICES: dict[str, Callable[..., Handler]] = {
    "git-upload-pack": UploadPackHandler,
    "git-receive-pack": ReceivePackHandler,
}


def plain(body: bytes, encoding: str) -> bytes:
    """The body of a request, decompressed."""
    return gzip.decompress(body) if encoding in ("gzip", "x-gzip") else body


def advertise(path: Path, service: str, switches: Switches) -> bytes:
    """The response to `GET info/refs?service=…`."""
    out = BytesIO()
    out.write(pkt_line(b"# service=" + service.encode() + b"\n"))
    out.write(pkt_line(None))
    _serve(path, service, b"", out, switches, advertise_refs=True)
    return out.getvalue()


def serve(path: Path, service: str, body: bytes, switches: Switches, rules: Rules | None = None) -> bytes:
    """The response to a POST of `body` to a service. `rules` apply to a push."""
    out = BytesIO()
    try:
        _serve(path, service, body, out, switches, advertise_refs=False, rules=rules)
    except GitProtocolError as error:
        return pkt_line(b"ERR " + str(error).encode())
    return out.getvalue()


def _serve(
    path: Path,
    service: str,
    body: bytes,
    out: BytesIO,
    switches: Switches,
    *,
    advertise_refs: bool,
    rules: Rules | None = None,
) -> None:
    kind = SERVICES[service]
    if kind is UploadPackHandler and not switches.git_filter:
        kind = _WithoutFilter
    if kind is ReceivePackHandler and rules is not None:
        kind = receiver(rules)
    with Repo(str(path)) as repo:
        protocol = ReceivableProtocol(BytesIO(body).read, out.write)
        handler = kind(
            DictBackend({b"/": cast("BackendRepo", repo)}),
            [b"/"],
            protocol,
            stateless_rpc=True,
            advertise_refs=advertise_refs,
        )
        handler.handle()
