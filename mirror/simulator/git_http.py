"""Git over HTTP, by dulwich's server over the real repositories."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import cast

from dulwich.protocol import ReceivableProtocol, pkt_line
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, Handler, ReceivePackHandler, UploadPackHandler

SERVICES: dict[str, Callable[..., Handler]] = {
    "git-upload-pack": UploadPackHandler,
    "git-receive-pack": ReceivePackHandler,
}
BODY_MAX = 1 << 30


def advertise(path: Path, service: str) -> bytes:
    """The answer to `GET info/refs?service=…`."""
    out = BytesIO()
    out.write(pkt_line(b"# service=" + service.encode() + b"\n"))
    out.write(pkt_line(None))
    _serve(path, service, b"", out, advertise_refs=True)
    return out.getvalue()


def serve(path: Path, service: str, body: bytes, encoding: str) -> bytes:
    """The answer to a POST of `body` to a service."""
    out = BytesIO()
    data = gzip.decompress(body) if encoding == "gzip" else body
    _serve(path, service, data, out, advertise_refs=False)
    return out.getvalue()


def _serve(path: Path, service: str, body: bytes, out: BytesIO, *, advertise_refs: bool) -> None:
    with Repo(str(path)) as repo:
        protocol = ReceivableProtocol(BytesIO(body).read, out.write)
        handler = SERVICES[service](
            DictBackend({b"/": cast("BackendRepo", repo)}),
            [b"/"],
            protocol,
            stateless_rpc=True,
            advertise_refs=advertise_refs,
        )
        handler.handle()
