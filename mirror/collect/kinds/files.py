"""Files: downloads, attachments, logs, patches. They stream to the disk, whatever their size."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, ServerTrouble
from mirror.collect.ports import Work
from mirror.model import JsonObject

TRIES_MAX = 3
# What must be left on the disk after a file of which the size is known.
ROOM_LEFT = 64 * 1024 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(ApiError):
    """The disk does not take a file. Nothing of it is kept."""


async def keep_file(
    work: Work,
    client: Client,
    endpoint: Endpoint,
    name: str,
    places: Mapping[str, str | int],
    *,
    text: bool = False,
    size: int | None = None,
) -> JsonObject:
    """Keep the file at `endpoint`, whose address names `places`; it is called `name` upstream and has
    `size` bytes, where that is known. Returns the pointer to it.

    A transfer that broke off and could not be taken up again is begun anew. Raises ApiError, NoRoom for
    a full disk among them, and ServerTrouble where no try came to its end.
    """
    if size is not None and size + ROOM_LEFT > work.draft.room():
        raise NoRoom(f"{endpoint.name}: the disk has no room for its {size} bytes", endpoint=endpoint.name)
    tries = 0
    while True:
        tries += 1
        has_begun = False
        try:
            async with client.download(endpoint, **places) as chunks:
                has_begun = True
                return await work.draft.put_file(chunks, name, text=text)
        except ServerTrouble:
            if not has_begun or tries >= TRIES_MAX:
                raise
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            text_of = f"{endpoint.name}: {error.strerror or error} while it was written"
            raise NoRoom(text_of, endpoint=endpoint.name) from error
