"""Multipart bodies."""

from __future__ import annotations

import email.parser
import email.policy
from dataclasses import dataclass

from mirror.simulator.api.paging import BadRequest


@dataclass(frozen=True)
class Part:
    """One part: its field, file name (empty: not a file), media type and content."""

    name: str
    filename: str
    media: str
    content: bytes


def parts(content: bytes, kind: str) -> list[Part]:
    """The parts of a body whose Content-Type is `kind`. Raises BadRequest where it has none."""
    head = b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
    if not message.is_multipart():
        raise BadRequest("The body has no parts")
    found = []
    for one in message.iter_parts():
        payload = one.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = one.get_param("name", "", "content-disposition") or one.get("Content-ID", "").strip('"<>')
        found.append(Part(str(name), one.get_filename() or "", one.get_content_type(), payload))
    return found
