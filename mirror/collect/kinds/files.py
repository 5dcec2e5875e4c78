"""Files: downloads, attachments, logs, patches. They stream to the disk, whatever their size."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, ServerTrouble
from mirror.collect.context import Draft
from mirror.model import JsonObject

TRIES_MAX = 3
# So many bytes must stay free on the disk after a file of known size.
ROOM_LEFT = 64 * 1024 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(ApiError):
    """The disk has no room for a file. Nothing of it is kept."""


async def keep_file(
    draft: Draft,
    client: Client,
    endpoint: Endpoint,
    name: str,
    places: Mapping[str, str | int],
    *,
    text: bool = False,
    size: int | None = None,
) -> JsonObject:
    """Store the file at `endpoint`, whose address takes `places`; returns the pointer to it.

    `name` is what it is called upstream, `size` its length in bytes where that is known. `text` is stored
    compressed. A transfer that breaks off and cannot be resumed starts over. Raises ApiError, NoRoom for a
    full disk among them, and ServerTrouble after TRIES_MAX tries.
    """
    if size is not None and size + ROOM_LEFT > draft.room():
        raise NoRoom(f"{endpoint.name}: the disk has no room for its {size} bytes", endpoint=endpoint.name)
    tries = 0
    while True:
        tries += 1
        has_begun = False
        try:
            async with client.download(endpoint, **places) as chunks:
                has_begun = True
                return await draft.put_file(chunks, name, text=text)
        except ServerTrouble:
            if not has_begun or tries >= TRIES_MAX:
                raise
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            message = f"{endpoint.name}: {error.strerror or error} while it was written"
            raise NoRoom(message, endpoint=endpoint.name) from error
