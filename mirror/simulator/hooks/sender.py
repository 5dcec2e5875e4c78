"""Sends events to the webhooks that want them, as Bitbucket does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from mirror.simulator.addresses import is_loopback
from mirror.simulator.api.render import Renderer
from mirror.simulator.hooks.faults import HookFaults
from mirror.simulator.hooks.payloads import payload
from mirror.simulator.world.events import Event
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import World

# Bitbucket waits so many seconds for an answer, sends again at once after a 5xx, so often in all, and drops
# longer payloads without a word.
PATIENCE = 10.0
ATTEMPTS = 3
SIZE_MAX = 256 << 10
USER_AGENT = "Bitbucket-Webhooks/2.0"
STRANGERS_SECRET = "a stranger's secret"


@dataclass
class Delivery:
    """One event for one hook. `fate` tells what became of it: `sent`, `lost` or `dropped`; before, `waiting`,
    `late` or `held`. `statuses` has the answer to each attempt, None where there was none in time."""

    hook: str
    key: str
    url: str
    request: str
    body: bytes = field(repr=False)
    secret: str = field(repr=False, default="")
    repository: str = ""
    fate: str = "waiting"
    statuses: list[int | None] = field(default_factory=list)

    def headers(self, attempt: int, when: str) -> dict[str, str]:
        """The headers of one attempt, counted from 1."""
        headers = {
            "Content-Type": "application/json", "User-Agent": USER_AGENT, "X-Event-Key": self.key,
            "X-Event-Time": when, "X-Hook-UUID": self.hook.strip("{}"), "X-Request-UUID": self.request,
            "X-Attempt-Number": str(attempt),
        }  # fmt: skip
        if self.secret:
            digest = hmac.new(self.secret.encode(), self.body, hashlib.sha256).hexdigest()
            headers["X-Hub-Signature"] = f"sha256={digest}"
        return headers


class HookSender:
    """Listens to a world. Sends to this machine only; of other addresses it tells once.

    `render` returns the current renderer, `lag` is called with each repository of which a delivery goes out,
    and `tell` with what a person should know. Deliveries of one hook go out one after the other.
    """

    def __init__(
        self,
        world: World,
        render: Callable[[], Renderer],
        *,
        faults: HookFaults,
        lag: Callable[[SimRepository], None],
        tell: Callable[[str], None],
    ) -> None:
        self.deliveries: list[Delivery] = []
        self._world = world
        self._render = render
        self._faults = faults
        self._lag = lag
        self._tell = tell
        self._told: set[str] = set()
        self._numbers = itertools.count()
        # Guards what follows; a thread may hold it more than once.
        self._changed = threading.Condition()
        self._open = 0
        self._held: list[Delivery] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._turns: dict[str, asyncio.Lock] = {}

    # -- events

    def hear(self, event: Event) -> None:
        """Deliver an event to each active hook that wants it."""
        repository: SimRepository = event.repository
        wanted = [one for one in _hooks(repository) if one["active"] and event.key in one["events"]]
        body = b""
        for hook in wanted:
            if not is_loopback(urlsplit(hook["url"]).hostname or ""):
                self._refuse(hook["url"])
                continue
            body = body or json.dumps(payload(event, self._render())).encode()
            with self._changed:
                self._deliver(hook, event, body)

    def _refuse(self, url: str) -> None:
        if url not in self._told:
            self._told.add(url)
            self._tell(f"The simulator sends hooks to this machine only, and nothing to {url}.")

    def _deliver(self, hook: dict[str, Any], event: Event, body: bytes) -> None:
        fates = self._faults.fates(next(self._numbers))
        if "oversized" in fates:
            body += b" " * SIZE_MAX
        secret = self._world.secrets.get(hook["uuid"], "")
        made = Delivery(
            hook["uuid"], event.key, hook["url"], str(uuid.uuid4()), body, secret, event.repository.uuid
        )
        self.deliveries.append(made)
        if "forged" in fates:
            self._forge(made)
        if "lost" in fates:
            made.fate = "lost"
        elif len(body) > SIZE_MAX:
            made.fate = "dropped"
        else:
            self._lag(event.repository)
            self._dispatch(made, fates)

    def _dispatch(self, delivery: Delivery, fates: frozenset[str]) -> None:
        before, self._held = self._held, []
        earlier = [one for one in before if one.fate == "held" and one.hook == delivery.hook]
        self._held = [one for one in before if one not in earlier]
        if "late" in fates:
            self._hold(delivery, self._faults.seconds)
        elif "reordered" in fates:
            self._hold(delivery, None)
        else:
            self._send(delivery)
        for one in earlier:
            self._send(one)
        if "doubled" in fates:
            self._send(delivery)

    def _hold(self, delivery: Delivery, seconds: float | None) -> None:
        delivery.fate = "late" if seconds is not None else "held"
        self._held.append(delivery)
        if seconds is not None:
            loop = self._running()
            loop.call_soon_threadsafe(loop.call_later, seconds, self._release_one, delivery)

    def _release_one(self, delivery: Delivery) -> None:
        with self._changed:
            if any(one is delivery for one in self._held):
                self._held = [one for one in self._held if one is not delivery]
                self._send(delivery)

    def _forge(self, original: Delivery) -> None:
        forged = Delivery(
            original.hook, original.key, original.url, str(uuid.uuid4()), original.body, STRANGERS_SECRET,
            original.repository,
        )  # fmt: skip
        self._send(forged)

    def release(self) -> None:
        """Send at once what is held as late or reordered."""
        for one in list(self._held):
            self._release_one(one)

    # -- sending

    def _send(self, delivery: Delivery) -> None:
        with self._changed:
            self._open += 1
        loop = self._running()
        loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._post(delivery), loop=loop))

    async def _post(self, delivery: Delivery) -> None:
        try:
            async with self._turns.setdefault(delivery.hook, asyncio.Lock()):
                for attempt in range(1, ATTEMPTS + 1):
                    status = await self._attempt(delivery, attempt)
                    delivery.statuses.append(status)
                    if status is None or status < 500:
                        break
                delivery.fate = "sent"
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    async def _attempt(self, delivery: Delivery, attempt: int) -> int | None:
        if self._client is None:
            # Straight to this machine, whatever proxy the environment names.
            self._client = httpx.AsyncClient(trust_env=False, timeout=PATIENCE)
        when = format_datetime(self._world.clock(), usegmt=True)
        try:
            async with asyncio.timeout(PATIENCE):
                headers = delivery.headers(attempt, when)
                response = await self._client.post(delivery.url, content=delivery.body, headers=headers)
        except (httpx.HTTPError, TimeoutError):
            return None
        return response.status_code

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until everything that is not held was sent. Raises TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._open == 0, timeout):
                raise TimeoutError(f"{self._open} deliveries are still under way")

    # -- the thread

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop that sends, started with the first delivery."""
        with self._changed:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="hooks", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Stop, and drop what was not sent."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        self._loop = None

    async def _end(self) -> None:
        others = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _hooks(repository: SimRepository) -> Iterator[dict[str, Any]]:
    """The hooks of a repository and of its workspace."""
    for owner in (repository, repository.workspace):
        yield from owner.settings.get("hooks", [])
