"""`/metrics`: what the store and the running service tell Prometheus.

Reading the store takes as long as its size asks for. So it is read beside the requests: each is answered with
what was read last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirror.browse.cluster import cluster_figures
from mirror.browse.figures import figures
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.metrics import service
from mirror.metrics.definitions import Sample
from mirror.metrics.exposition import CONTENT_TYPE, exposition
from mirror.model import Clock
from mirror.web.context import Page, page_of

# What was read is read again after so many seconds, when somebody asks.
READ_EVERY = 60.0
# The first request waits so long for it: Prometheus waits ten seconds.
PATIENCE = 8.0

_log = get_logger("web")


class StoreFigures:
    """The samples that `collect` returns, as text, read by a thread of its own. Where it fails, the last ones
    stay."""

    def __init__(self, collect: Callable[[], Iterable[Sample]], clock: Clock) -> None:
        self._collect, self._clock = collect, clock
        self._text = b""
        self._read_at: float | None = None
        self._lock = threading.Lock()
        self._done: threading.Event | None = None

    def text(self, patience: float = PATIENCE) -> bytes:
        """What was read last. Waits at most `patience` seconds for the first reading; nothing after that."""
        with self._lock:
            if self._done is None and self._is_due():
                self._done = threading.Event()
                threading.Thread(target=self._read, args=(self._done,), name="figures", daemon=True).start()
            done = self._done if self._read_at is None else None
        if done is not None:
            done.wait(patience)
        return self._text

    def _is_due(self) -> bool:
        return self._read_at is None or self._clock.monotonic() - self._read_at >= READ_EVERY

    def _read(self, done: threading.Event) -> None:
        try:
            self._text = exposition(self._collect())
        except Exception as error:  # noqa: BLE001 - whatever it is, the service goes on
            _log.error("metrics.not_read", reason=_reason(error))
        finally:
            with self._lock:
                self._read_at, self._done = self._clock.monotonic(), None
            done.set()


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, MirrorError) else f"{type(error).__name__}: {error}"


def figures_for(page: Page) -> StoreFigures:
    """The figures of a page's store."""
    return StoreFigures(lambda: figures(page.store, page.config), page.clock)


def _metrics(request: Request) -> Response:
    figures = request.app.state.figures
    assert isinstance(figures, StoreFigures)
    page = page_of(request)
    of_service = exposition(service.samples(page.live)) if page.live is not None else b""
    of_cluster = exposition(cluster_figures(page.cluster())) if page.cluster is not None else b""
    return Response(
        of_service + of_cluster + figures.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE}
    )


ROUTES = (Route("/metrics", _metrics, name="metrics"),)
