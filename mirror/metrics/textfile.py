"""The file for the textfile collector of Prometheus's node_exporter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mirror.errors import MirrorError
from mirror.fs.durable import AtomicFile
from mirror.logs import get_logger
from mirror.metrics.definitions import Sample
from mirror.metrics.exposition import exposition

# Everybody may read it: node_exporter runs as a user of its own, and the file has no secret.
MODE = 0o644

_log = get_logger("metrics")


def update(path: Path, collect: Callable[[], Iterable[Sample]]) -> None:
    """Replace the file at `path` by the samples that `collect` returns, in one step.

    Never raises: where they cannot be collected or written, the old file stays, and the log says why.
    """
    try:
        text = exposition(collect())
        with AtomicFile(path.parent, path.name) as new:
            os.fchmod(new.stream.fileno(), MODE)
            new.stream.write(text)
            new.publish(path)
    except Exception as error:  # noqa: BLE001 - metrics never fail a run
        _log.error("metrics.not_written", file=str(path), reason=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, MirrorError):
        return error.message
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
