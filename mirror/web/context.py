"""What the handlers of the page work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from mirror.browse.cluster import ClusterSeen
from mirror.browse.watch import Watch
from mirror.config import Config
from mirror.model import Clock
from mirror.model.live import Live
from mirror.web.access import Access

# Looks at a cluster; may take some seconds, and never raises.
LookAtCluster = Callable[[], ClusterSeen]


@dataclass(frozen=True)
class Page:
    """The store that is shown, and what is known beside it.

    `config` is None over a copy without a configuration, `live` where no service runs in this process.
    `cluster` looks at the cluster of which the store is a shard.
    """

    store: Path
    clock: Clock
    access: Access
    watch: Watch
    config: Config | None = None
    live: Live | None = None
    cluster: LookAtCluster | None = None


def page_of(request: Request) -> Page:
    """The page that a request is for."""
    page = request.app.state.page
    assert isinstance(page, Page)
    return page
