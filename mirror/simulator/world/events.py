"""What happens in the world, for whoever is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mirror.simulator.world.people import User


@dataclass(frozen=True)
class Event:
    """A change that Bitbucket announces. `key` is its name there, such as `repo:push`.

    `repository` is the SimRepository that it is about, as it is after the change. `detail` holds what this
    kind of event tells besides, as objects of the world. `actor` None: nobody known.
    """

    key: str
    repository: Any
    actor: User | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """A listener that ignores every event."""
    del event
