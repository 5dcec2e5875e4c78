"""The client: one request after another, each within the budget, signed, checked and retried.

It believes nothing. Addresses that a server names are held against the API's own origin before the
credential goes along; answers are bounded in size while they come; and every failure has a type
that says what it means, because "no answer" and "none" must never look alike.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from urllib.parse import quote, urlencode

import httpx

from mirror.auth.signin import SignIn, SignInTrouble
from mirror.bitbucket.client import answers
from mirror.bitbucket.client.answers import NETWORK_ERRORS, Verdict
from mirror.bitbucket.client.attempts import TRIES_MAX, Attempts, Desk
from mirror.bitbucket.client.bodies import ACCEPT_ENCODING, chunks
from mirror.bitbucket.client.budget import Budget, Priority
from mirror.bitbucket.client.doubts import Doubts, place_of
from mirror.bitbucket.client.downloads import FILE_BYTES_MAX, Download, Opened
from mirror.bitbucket.client.redirects import redirect_target
from mirror.bitbucket.endpoints import BYTES, REPOSITORY, WORKSPACE, Endpoint, Query
from mirror.bitbucket.failures import BadAnswer, plain
from mirror.errors import CredentialRefused, MirrorError
from mirror.http.headers import rate_limit_from_headers
from mirror.http.network import Network
from mirror.http.origins import REDIRECTS_MAX
from mirror.http.scope import Scope
from mirror.http.transports import NetworkTransport
from mirror.logs import get_logger
from mirror.model import Clock, Json, JsonObject, NotCanonical, loads

__all__ = ["REDIRECTS_MAX", "TRIES_MAX", "Answer", "Client"]

BODY_BYTES_MAX = 64 * 1024 * 1024
SILENCE = 60.0
# For the head of an answer, and again for its body; a file has as long as it comes at the least rate.
ANSWER_SECONDS = 300.0
KEEP_ALIVE_SECONDS = 60.0
GIT_LOGIN_TRIES = 3
# How `X-Credential-Type` names the kinds of access tokens, which differ in what they see.
_TOLD_KINDS = {
    "workspace_access_token": "workspace_access_token",
    "project_access_token": "project_access_token",
    "repo_access_token": "repository_access_token",
}

_log = get_logger("bitbucket")


@dataclass(frozen=True)
class Answer:
    """One answer: its JSON, the headers (lower-case names), the URL that gave it, and the sign-in
    that it was given to."""

    data: Json
    headers: Mapping[str, str] = field(repr=False)
    url: str = ""
    sign_in: SignIn | None = field(default=None, repr=False, compare=False)

    def object(self, what: str) -> JsonObject:
        """The JSON as an object. Raises BadAnswer where it is something else, or says nothing: no thing is
        empty, and what is held must not be replaced by that."""
        if not isinstance(self.data, dict):
            raise BadAnswer(f"{what}: the answer is not an object", endpoint=what)
        if not self.data:
            raise BadAnswer(f"{what}: the answer is an empty object", endpoint=what)
        if self.data.get("type") == "error":
            raise BadAnswer(f"{what}: the answer is an error, although its status is 200", endpoint=what)
        return self.data


@dataclass(frozen=True)
class _Sent:
    """What came back, and whether it is the API's own word."""

    response: httpx.Response
    own: bool


@dataclass
class _Tally:
    requests: int = 0


class Client:
    """Talks to one API with one or several sign-ins. An async context manager.

    With several, each request goes by the one with the most requests left; what one may not read
    is asked with the next. `until` (monotonic) is how long it waits for the budget, where that is not its
    patience. `network` says how servers are reached, where `transport` does not. `requests` counts what was
    sent to the API. `file_max` is how many bytes a file may have.
    """

    def __init__(
        self,
        sign_ins: Sequence[SignIn],
        *,
        api_url: str,
        clock: Clock,
        concurrency: int = 8,
        budget: Budget | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        jitter: random.Random | None = None,
        until: float | None = None,
        file_max: int = FILE_BYTES_MAX,
        network: Network | None = None,
    ) -> None:
        self.network = network or Network()
        self.clock = clock
        self._file_max = file_max
        self.budget = budget or Budget(clock)
        self._root = Scope(api_url)
        self.api_url = self._root.url
        self._desk = Desk(
            sign_ins,
            self.budget,
            clock,
            jitter or random.Random(),  # noqa: S311 - spreads retries, protects nothing
        )
        self._doubts = Doubts(self._root.url, self._prove, clock)
        self._places: dict[tuple[int, str], bool] = {}
        self._error: MirrorError | None = None
        self._only: SignIn | None = None
        self._priority = Priority.FIRST
        self._until = until
        self._tally = _Tally()
        self._told: set[str] = set()
        self._told_kinds: dict[int, str] = {}
        self._page_sizes: dict[str, int] = {}
        width = max(1, concurrency)
        self._slots = asyncio.Semaphore(width)
        limits = httpx.Limits(
            max_connections=width, max_keepalive_connections=width, keepalive_expiry=KEEP_ALIVE_SECONDS
        )
        self._http = httpx.AsyncClient(
            transport=transport or NetworkTransport(self.network, limits),
            timeout=httpx.Timeout(SILENCE, connect=self.network.connect_timeout, pool=None),
            follow_redirects=False,
            trust_env=False,
            headers={
                "User-Agent": self.network.api_agent,
                "Accept-Encoding": ACCEPT_ENCODING,
            },
            # No cookie is ever kept, so none can go where it should not.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        # These would write addresses (some of storage, good for whoever has them) and headers.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def requests(self) -> int:
        """How many requests were sent to the API so far."""
        return self._tally.requests

    @property
    def sign_ins(self) -> tuple[SignIn, ...]:
        """The sign-ins, in the order of the configuration."""
        return self._desk.sign_ins if self._only is None else (self._only,)

    def kind_of(self, sign_in: SignIn) -> str:
        """The kind of a sign-in: what Bitbucket calls it in its answers, else what was configured, which for
        an access token may be wrong or unknown."""
        return self._told_kinds.get(id(sign_in), sign_in.kind)

    def only(self, sign_in: SignIn) -> Client:
        """The same client, asking with this sign-in and no other. It is not to be closed itself."""
        view = copy.copy(self)
        view._only = sign_in
        return view

    def with_priority(self, priority: Priority, *, until: float | None = None) -> Client:
        """A view of this client that sends requests with `priority` and waits for the budget until
        `until` (monotonic) at most. Close the original, not the view."""
        view = copy.copy(self)
        view._priority, view._until = priority, self._until if until is None else until
        return view

    def failing(self, error: MirrorError) -> Client:
        """The same client, which asks for nothing any more: every request comes to `error` at once. It is
        not to be closed itself."""
        view = copy.copy(self)
        view._error = error
        return view

    def remaining(self) -> int:
        """Number of API requests that may be sent now without waiting, summed over all sign-ins."""
        return sum({one.identity: self.budget.left(one.identity, "api") for one in self.sign_ins}.values())

    async def git_login(self) -> tuple[str, str] | None:
        """The first of `git_logins`; None where there is no sign-in at all."""
        return next(iter(await self.git_logins()), None)

    async def git_logins(self) -> list[tuple[str, str]]:
        """User name and password for git by each sign-in; those that the API has refused come last,
        because git decides for itself.

        Raises CredentialRefused where none can be had, or TryLater where the sign-in server cannot say.
        """
        found: list[tuple[str, str]] = []
        refusals: list[MirrorError] = []
        for one in sorted(self.sign_ins, key=lambda one: self._desk.refusal(one) is not None):
            try:
                found.append(await self._git_login(one))
            except (CredentialRefused, SignInTrouble) as error:
                refusals.append(error)
        if refusals and not found:
            raise next((one for one in refusals if isinstance(one, SignInTrouble)), refusals[0])
        return found

    async def _git_login(self, sign_in: SignIn) -> tuple[str, str]:
        for attempt in range(1, GIT_LOGIN_TRIES):
            try:
                return await sign_in.git_login(self._http)
            except (CredentialRefused, SignInTrouble):
                await self.clock.sleep(float(attempt))
        return await sign_in.git_login(self._http)

    @property
    def refusals(self) -> list[tuple[SignIn, CredentialRefused]]:
        """The sign-ins that were refused so far, each with why."""
        found = [(one, self._desk.refusal(one)) for one in self.sign_ins]
        return [(one, refusal) for one, refusal in found if refusal is not None]

    def url(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> str:
        """The address of an endpoint, its own query and `query` included."""
        pairs: list[tuple[str, str]] = []
        for name, value in {**endpoint.query, **(query or {})}.items():
            pairs += [(name, item) for item in ([value] if isinstance(value, str) else value)]
        text = f"?{urlencode(pairs, quote_via=quote, safe='')}" if pairs else ""
        return self.api_url + endpoint.path(**parts) + text

    async def get(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> Answer:
        """Ask for one thing. Raises the errors of `mirror.bitbucket.failures`."""
        return await self.fetch(endpoint, self.url(endpoint, query, **parts))

    async def fetch(self, endpoint: Endpoint, url: str, *, by: SignIn | None = None) -> Answer:
        """Ask for the JSON at `url`, which must be the API's own; with `by` where that is given."""
        self.check_own(url, endpoint)
        attempts = self._attempts(endpoint, url, by or self._only)
        while True:
            sign_in = await self._chosen(attempts)
            answer = await self._ask(sign_in, attempts)
            if isinstance(answer, Answer):
                self._desk.succeeded(attempts)
                self._doubts.passed(sign_in, attempts)
                return answer
            await self._failed(attempts, sign_in, answer)

    async def _chosen(self, attempts: Attempts) -> SignIn:
        """The sign-in for the next try. Raises what the request came to where none is left."""
        if self._error is not None:
            raise self._error
        sign_in = self._desk.choose(attempts)
        if sign_in is not None:
            return sign_in

        async def sees(one: SignIn) -> bool:
            return await self._sees(one, attempts.url)

        raise await self._desk.outcome(attempts, sees)

    async def _failed(self, attempts: Attempts, sign_in: SignIn, verdict: Verdict) -> None:
        """Make ready for the next try. Raises the failure where there is none."""
        judged = await self._doubts.judged(sign_in, attempts, verdict)
        if judged is not None:
            await self._desk.after(attempts, sign_in, judged)

    async def _prove(self, sign_in: SignIn, endpoint: Endpoint, url: str) -> MirrorError | None:
        """Ask once, with one sign-in; None where it is given, else why not."""
        answer = await self._ask(sign_in, self._attempts(endpoint, url, sign_in))
        return answer.error if isinstance(answer, Verdict) else None

    async def _sees(self, sign_in: SignIn, url: str) -> bool:
        """Whether a sign-in can see what `url` is a part of: its repository, project or workspace."""
        place = place_of(url)
        if place is None:
            return False
        key = (id(sign_in), place)
        if key not in self._places:
            endpoint = REPOSITORY if "/repositories/" in place else WORKSPACE
            self._places[key] = await self._prove(sign_in, endpoint, place) is None
        return self._places[key]

    def _attempts(self, endpoint: Endpoint, url: str, only: SignIn | None) -> Attempts:
        return Attempts(endpoint, url, self.clock.monotonic(), only, self._priority, self._until)

    async def _allowed(self, sign_in: SignIn, attempts: Attempts) -> None:
        """Wait until the budget has a request for this."""
        await self.budget.acquire(
            sign_in.identity,
            attempts.endpoint.group,
            priority=attempts.priority,
            since=attempts.since,
            until=attempts.until,
        )

    async def _ask(self, sign_in: SignIn, attempts: Attempts) -> Answer | Verdict:
        endpoint = attempts.endpoint
        # Whoever waits for the budget keeps nobody else from a connection.
        await self._allowed(sign_in, attempts)
        try:
            async with self._slots, self._open(sign_in, attempts) as sent:
                body = await self._read(sent.response, endpoint)
        except NETWORK_ERRORS as error:
            return answers.judge_failure(endpoint, error)
        except CredentialRefused as error:
            return Verdict(error)
        verdict = self._judge(sign_in, endpoint, sent, body)
        if verdict is not None:
            return verdict
        try:
            return Answer(loads(body), dict(sent.response.headers), str(sent.response.url), sign_in)
        except NotCanonical as error:
            # Often a connection that was cut; if it stays so, it is the answer itself.
            text = f"{endpoint.name}: {plain(error)}"
            return Verdict(BadAnswer(text, endpoint=endpoint.name), again=True)

    def _judge(self, sign_in: SignIn, endpoint: Endpoint, sent: _Sent, body: bytes) -> Verdict | None:
        response = sent.response
        if not sent.own:
            verdict = answers.judge_elsewhere(endpoint, response, body)
            if verdict is None and not answers.is_json(response):
                verdict = Verdict(BadAnswer(f"{endpoint.name}: redirected to what is not JSON"))
            return verdict
        self._note_deprecation(endpoint, response)
        told = _TOLD_KINDS.get(response.headers.get("x-credential-type", ""))
        if told is not None and sign_in.kind.endswith("access_token"):
            self._told_kinds[id(sign_in)] = told
        limit, remaining = rate_limit_from_headers(response.headers)
        self.budget.learn(sign_in.identity, endpoint.group, limit=limit, remaining=remaining)
        return answers.judge(
            endpoint, response, body, kind=sign_in.kind, now=self.clock.now(), expires=sign_in.expires
        )

    @asynccontextmanager
    async def _open(
        self, sign_in: SignIn, attempts: Attempts, more: Mapping[str, str] | None = None
    ) -> AsyncIterator[_Sent]:
        """Send a request that the budget allowed, with `more` headers, and follow its redirects; the
        credential stays below the API's root.

        Once a redirect has left it, nothing is signed any more, even where another leads back.
        """
        endpoint = attempts.endpoint
        url, own = attempts.url, True
        self._doubts.sent(attempts)
        for number in range(REDIRECTS_MAX + 1):
            own = own and self._root.contains(url)
            if own and number:
                await self._allowed(sign_in, attempts)
            response = await self._send(sign_in, endpoint, url, more or {}, own=own)
            try:
                target = redirect_target(response, endpoint.name)
                if target is None:
                    yield _Sent(response, own)
                    return
                url = target
            finally:
                await response.aclose()
        raise BadAnswer(f"{endpoint.name}: more than {REDIRECTS_MAX} redirects", endpoint=endpoint.name)

    async def _send(
        self, sign_in: SignIn, endpoint: Endpoint, url: str, more: Mapping[str, str], *, own: bool
    ) -> httpx.Response:
        headers = {"Accept": endpoint.accept, **more}
        if endpoint.accept == BYTES:
            headers["Accept-Encoding"] = "identity"  # what is packed on the way cannot be resumed
        try:
            request = self._http.build_request("GET", url, headers=headers)
        except (httpx.InvalidURL, ValueError):
            raise BadAnswer(f"{endpoint.name}: malformed URL", endpoint=endpoint.name) from None
        self._tally.requests += own
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._http.send(
                    request, auth=sign_in.auth if own else None, stream=True, follow_redirects=False
                )
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None
        except (httpx.RemoteProtocolError, httpx.InvalidURL) as error:
            # The library looks at a redirect's target even where it is not to follow it.
            if isinstance(error, httpx.InvalidURL) or "location header" in str(error):
                raise BadAnswer(f"{endpoint.name}: a redirect to nowhere", endpoint=endpoint.name) from None
            raise
        # A sign-in that was renewed on the way has asked a second time.
        again = sum(1 for earlier in response.history if self._root.contains(str(earlier.url)))
        if again:
            self._tally.requests += again
            self.budget.count(sign_in.identity, endpoint.group, again)
        return response

    def check_own(self, url: str, endpoint: Endpoint) -> None:
        """Raise BadAnswer where `url` leads away from the API."""
        if not self._root.contains(url):
            raise BadAnswer(
                f"{endpoint.name}: an address that leads away from {self._root.host}; not followed",
                endpoint=endpoint.name,
            )

    async def _read(self, response: httpx.Response, endpoint: Endpoint) -> bytes:
        data = bytearray()
        async for chunk in chunks(
            response,
            most=BODY_BYTES_MAX,
            what=endpoint.name,
            minimum_rate=self.network.minimum_rate,
            seconds=ANSWER_SECONDS,
        ):
            data += chunk
        return bytes(data)

    def _note_deprecation(self, endpoint: Endpoint, response: httpx.Response) -> None:
        told = {
            name: plain(response.headers[name])
            for name in ("deprecation", "sunset")
            if name in response.headers
        }
        link = response.headers.get("link", "")
        if "deprecation" in link:
            told["link"] = plain(link)
        if told and endpoint.name not in self._told:
            self._told.add(endpoint.name)
            _log.warning("bitbucket.deprecated", endpoint=endpoint.name, **told)

    @asynccontextmanager
    async def download(self, endpoint: Endpoint, **parts: str | int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a file as they come, at most `file_max` of them.

        Redirects to storage elsewhere are followed without the credential. Where the connection breaks
        off, the rest is asked for as long as the server proves that it is the same file; else
        ServerTrouble is raised, and what was read until then must be dropped.
        """
        url = self.url(endpoint, None, **parts)

        async def begin(headers: Mapping[str, str]) -> Opened:
            return await self._open_file(self._attempts(endpoint, url, self._only), headers)

        file = Download(
            begin,
            self.clock,
            endpoint.name,
            most=self._file_max,
            minimum_rate=self.network.minimum_rate,
        )
        await file.begin()
        try:
            async with aclosing(file.chunks()) as several:
                yield several
        finally:
            await file.close()

    async def _open_file(self, attempts: Attempts, headers: Mapping[str, str]) -> Opened:
        """Ask for a file until an answer is one. Whoever gets it closes it."""
        while True:
            sign_in = await self._chosen(attempts)
            await self._allowed(sign_in, attempts)
            async with AsyncExitStack() as held:
                try:
                    await held.enter_async_context(self._slots)
                    sent = await held.enter_async_context(self._open(sign_in, attempts, headers))
                    if _is_file(sent):
                        self._desk.succeeded(attempts)
                        return Opened(sent.response, held.pop_all())
                    body = await self._read(sent.response, attempts.endpoint)
                    verdict = self._judge(sign_in, attempts.endpoint, sent, body)
                except NETWORK_ERRORS as error:
                    verdict = answers.judge_failure(attempts.endpoint, error)
                except CredentialRefused as error:
                    verdict = Verdict(error)
            if verdict is None:
                text = f"{attempts.endpoint.name}: answered with something that is not the file"
                verdict = Verdict(BadAnswer(text, endpoint=attempts.endpoint.name), again=True)
            await self._failed(attempts, sign_in, verdict)

    def page_size(self, endpoint: Endpoint) -> int:
        """How many entries to ask for in a page: the endpoint's most, or what it last accepted."""
        return self._page_sizes.get(endpoint.name, endpoint.page_size)

    def page_size_refused(self, endpoint: Endpoint, refused: int) -> int:
        """The size to ask for after `refused` was: 50, then none named (0)."""
        smaller = 50 if refused > 50 else 0
        # Several lists may be refused at once; the second does not make it smaller still.
        if self.page_size(endpoint) == refused:
            self._page_sizes[endpoint.name] = smaller
            _log.info("bitbucket.page_size_refused", endpoint=endpoint.name, refused=refused)
        return smaller


def _is_file(sent: _Sent) -> bool:
    """Whether an answer is a file, or the rest of one. A web page from the API itself is its front end in
    trouble, unless it says that it is an attachment, as it does of a snippet's file; storage may well
    hold one."""
    response = sent.response
    is_page = answers.is_html(response) and not answers.is_attachment(response)
    return response.status_code in (200, 206) and not (sent.own and is_page)
