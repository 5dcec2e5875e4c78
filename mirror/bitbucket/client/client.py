"""The API client: requests within the budget, signed, checked and retried.

It trusts no response. URLs that a server names are compared with the API's root before the credential is sent
there, bodies are limited in size while they arrive, and every failure has a type with a defined meaning, so
that "no response" and "none" are never confused.
"""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from types import TracebackType
from urllib.parse import quote, urlencode

import httpx

from mirror.auth.signin import SignIn
from mirror.bitbucket.client import responses
from mirror.bitbucket.client.answer import Answer
from mirror.bitbucket.client.budget import Budget, Priority
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.client.credential_choice import TRIES_MAX, CredentialChoice, Request
from mirror.bitbucket.client.downloads import FILE_BYTES_MAX, Download, Opened
from mirror.bitbucket.client.git_logins import git_logins
from mirror.bitbucket.client.responses import NETWORK_ERRORS, Failure
from mirror.bitbucket.client.sender import Received, ResponseLimits, Sender
from mirror.bitbucket.client.unauthorized import UnauthorizedCheck, place_of
from mirror.bitbucket.endpoints import REPOSITORY, WORKSPACE, Endpoint, Query
from mirror.bitbucket.failures import BadAnswer, Denied, plain
from mirror.errors import CredentialRefused, MirrorError
from mirror.http.headers import rate_limit_from_headers
from mirror.http.network import Network
from mirror.http.origins import REDIRECTS_MAX
from mirror.http.scope import Scope
from mirror.logs import get_logger
from mirror.model import Clock, Json, NotCanonical, Progress, loads

__all__ = ["REDIRECTS_MAX", "TRIES_MAX", "Answer", "Client"]

# The kinds of access tokens in `X-Credential-Type`, which differ in what they can see.
_CREDENTIAL_TYPES = {
    "workspace_access_token": "workspace_access_token",
    "project_access_token": "project_access_token",
    "repo_access_token": "repository_access_token",
}

_log = get_logger("bitbucket")


class Client:
    """A client of one API with one or several sign-ins. An async context manager.

    With several, each request uses the one with the most requests left; what one may not read is requested
    with the next. `until` (monotonic seconds) ends waits for the budget, instead of its patience. `network`
    is how servers are reached, unless `transport` is given. `file_max` limits files, in bytes, and `limits`
    everything else. `progress` is told of requests, waits and bytes.
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
        limits: ResponseLimits | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.network = network or Network()
        self.clock = clock
        self._file_max = file_max
        self.budget = budget or Budget(clock)
        for one in sign_ins:
            self.budget.name(one.identity, one.place)
        self._scope = Scope(api_url)
        self.api_url = self._scope.url
        self._choice = CredentialChoice(
            sign_ins,
            self.budget,
            clock,
            jitter or random.Random(),  # noqa: S311 - spreads retries, protects nothing
        )
        self._unauthorized = UnauthorizedCheck(self._scope.url, self._try_once, clock)
        self._places: dict[tuple[int, str], bool] = {}
        self._error: MirrorError | None = None
        self._only: SignIn | None = None
        self._priority = Priority.FIRST
        self._until = until
        self._spares = False
        self._deprecated: set[str] = set()
        self._reported_kinds: dict[int, str] = {}
        self._page_sizes: dict[str, int] = {}
        self._sender = Sender(
            self._scope,
            self.budget,
            self.network,
            concurrency=concurrency,
            transport=transport,
            limits=limits or ResponseLimits(),
            identities=[one.identity for one in sign_ins],
            progress=progress,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sender.close()

    @property
    def requests(self) -> int:
        """The number of requests to the API so far."""
        return self._sender.requests

    @property
    def sign_ins(self) -> tuple[SignIn, ...]:
        """The sign-ins, in the order of the configuration."""
        return self._choice.sign_ins if self._only is None else (self._only,)

    def kind_of(self, sign_in: SignIn) -> str:
        """The kind of a sign-in: as Bitbucket reports it in responses, else as configured, which may be wrong
        or unknown for an access token."""
        return self._reported_kinds.get(id(sign_in), sign_in.kind)

    def only(self, sign_in: SignIn) -> Client:
        """A view of this client with this sign-in only. Do not close it."""
        view = copy.copy(self)
        view._only = sign_in
        return view

    def with_priority(self, priority: Priority, *, until: float | None = None) -> Client:
        """A view of this client that sends requests with `priority` and waits for the budget until
        `until` (monotonic) at most. Close the original, not the view."""
        view = copy.copy(self)
        view._priority, view._until = priority, self._until if until is None else until
        return view

    def sparing(self) -> Client:
        """A view of this client whose requests leave a quarter of the hour's limit to others. Close the
        original, not the view."""
        view = copy.copy(self)
        view._spares = True
        return view

    def failing(self, error: MirrorError) -> Client:
        """A view of this client that sends nothing: every request raises `error` at once. Do not close it."""
        view = copy.copy(self)
        view._error = error
        return view

    def remaining(self) -> int:
        """Number of API requests that may be sent now without waiting, summed over all sign-ins."""
        identities = {one.identity for one in self.sign_ins}
        return sum(self.budget.left(one, "api", spares=self._spares) for one in identities)

    async def git_login(self) -> tuple[str, str] | None:
        """The first of `git_logins`; None where there is no sign-in at all."""
        return next(iter(await self.git_logins()), None)

    async def git_logins(self) -> list[tuple[str, str]]:
        """User name and password for git from each sign-in. Those that the API refused come last: git may
        still accept them.

        Raises CredentialRefused where there is none, and TryLater where the sign-in server fails.
        """
        ordered = sorted(self.sign_ins, key=lambda one: self._choice.refusal(one) is not None)
        return await git_logins(ordered, self._sender.http, self.clock)

    @property
    def refusals(self) -> list[tuple[SignIn, CredentialRefused]]:
        """The sign-ins that were refused so far, each with its refusal."""
        found = [(one, self._choice.refusal(one)) for one in self.sign_ins]
        return [(one, refusal) for one, refusal in found if refusal is not None]

    def url(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> str:
        """The URL of an endpoint, with its own query and `query`."""
        pairs: list[tuple[str, str]] = []
        for name, value in {**endpoint.query, **(query or {})}.items():
            pairs += [(name, item) for item in ([value] if isinstance(value, str) else value)]
        text = f"?{urlencode(pairs, quote_via=quote, safe='')}" if pairs else ""
        return self.api_url + endpoint.path(**parts) + text

    async def get(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> Answer:
        """Request one document. Raises the errors of `mirror.bitbucket.failures`."""
        return await self.fetch(endpoint, self.url(endpoint, query, **parts))

    async def fetch(self, endpoint: Endpoint, url: str, *, by: SignIn | None = None) -> Answer:
        """Request the JSON at `url`, which must be below the API's root; with the sign-in `by` if given.
        Raises the errors of `mirror.bitbucket.failures`."""
        self.check_own(url, endpoint)
        return await self._complete(self._new_request(endpoint, url, by or self._only))

    async def send(self, change: Change, endpoint: Endpoint, **parts: str | int) -> Answer:
        """Send a change to an endpoint, whose own query is for reading and left out. `data` of the answer is
        None where the server says nothing.

        A POST is sent again only where nothing can have been made: the connection was refused, the rate
        limit was used up, or the server asks for it. Raises MaybeMade where it may have been carried out,
        and the other errors of `mirror.bitbucket.failures`.
        """
        request = self._new_request(endpoint, self.api_url + endpoint.path(**parts), self._only)
        request.change = change
        try:
            return await self._complete(request)
        except Denied as error:
            if error.is_for_users_only:
                error.hint = "add a user's API token to the credentials: it takes this from a user alone"
            raise

    async def _complete(self, request: Request) -> Answer:
        """Send a request until it succeeds. Raises its error where no attempt is left."""
        while True:
            sign_in = await self._choose(request)
            answer = await self._ask(sign_in, request)
            if isinstance(answer, Answer):
                self._choice.note_success(request)
                if request.change is None:
                    self._unauthorized.note_success(sign_in, request)
                return answer
            await self._failed(request, sign_in, answer)

    async def _choose(self, request: Request) -> SignIn:
        """The sign-in for the next attempt. Raises the error of the request where none is left."""
        if self._error is not None:
            raise self._error
        sign_in = self._choice.choose(request)
        if sign_in is not None:
            return sign_in

        async def can_see(one: SignIn) -> bool:
            return await self._can_see(one, request.url)

        raise await self._choice.final_error(request, can_see)

    async def _failed(self, request: Request, sign_in: SignIn, failure: Failure) -> None:
        """Prepare the next attempt. Raises the error where there is none."""
        resolved = await self._unauthorized.resolve(sign_in, request, failure)
        if resolved is not None:
            await self._choice.handle_failure(request, sign_in, resolved)

    async def _try_once(self, sign_in: SignIn, endpoint: Endpoint, url: str) -> MirrorError | None:
        """Send one request with one sign-in; returns None for success, else the error."""
        answer = await self._ask(sign_in, self._new_request(endpoint, url, sign_in))
        return answer.error if isinstance(answer, Failure) else None

    async def _can_see(self, sign_in: SignIn, url: str) -> bool:
        """Whether a sign-in can see the repository, project or workspace around `url`."""
        place = place_of(url)
        if place is None:
            return False
        key = (id(sign_in), place)
        if key not in self._places:
            endpoint = REPOSITORY if "/repositories/" in place else WORKSPACE
            self._places[key] = await self._try_once(sign_in, endpoint, place) is None
        return self._places[key]

    def _new_request(self, endpoint: Endpoint, url: str, only: SignIn | None) -> Request:
        return Request(endpoint, url, self.clock.monotonic(), only, self._priority, self._until, self._spares)

    async def _ask(self, sign_in: SignIn, request: Request) -> Answer | Failure:
        endpoint = request.endpoint
        # Wait for the budget before taking a connection.
        await self._sender.wait_for_budget(sign_in, request)
        try:
            async with self._sender.slots, self._open(sign_in, request) as received:
                body = await self._sender.read(received.response, endpoint)
        except NETWORK_ERRORS as error:
            return _of(request, responses.failure_of_exception(endpoint, error), error)
        except CredentialRefused as error:
            return Failure(error)
        response = received.response
        failure = self._failure_of(sign_in, endpoint, received, body)
        if request.change is not None and response.is_success and not responses.is_html(response):
            return Answer(_json_or_none(body), dict(response.headers), str(response.url), sign_in)
        if failure is not None:
            return _of(request, failure)
        try:
            return Answer(loads(body), dict(response.headers), str(response.url), sign_in)
        except NotCanonical as error:
            # Usually an interrupted connection; if it persists, it is the document itself.
            text = f"{endpoint.name}: {plain(error)}"
            return Failure(BadAnswer(text, endpoint=endpoint.name), retryable=True)

    def _failure_of(
        self, sign_in: SignIn, endpoint: Endpoint, received: Received, body: bytes
    ) -> Failure | None:
        response = received.response
        if not received.is_from_api:
            failure = responses.failure_of_storage(endpoint, response, body)
            if failure is None and not responses.is_json(response):
                failure = Failure(BadAnswer(f"{endpoint.name}: redirected to something other than JSON"))
            return failure
        self._log_deprecation(endpoint, response)
        reported = _CREDENTIAL_TYPES.get(response.headers.get("x-credential-type", ""))
        if reported is not None and sign_in.kind.endswith("access_token"):
            self._reported_kinds[id(sign_in)] = reported
        limit, remaining = rate_limit_from_headers(response.headers)
        self.budget.learn(sign_in.identity, endpoint.group, limit=limit, remaining=remaining)
        return responses.failure_of_response(
            endpoint, response, body, kind=sign_in.kind, now=self.clock.now(), expires=sign_in.expires
        )

    def _open(
        self, sign_in: SignIn, request: Request, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Received]:
        self._unauthorized.note_sent(request)
        return self._sender.open(sign_in, request, headers)

    def check_own(self, url: str, endpoint: Endpoint) -> None:
        """Raise BadAnswer where `url` is not below the API's root."""
        if not self._scope.contains(url):
            raise BadAnswer(
                f"{endpoint.name}: a URL outside {self._scope.host}; not followed",
                endpoint=endpoint.name,
            )

    def _log_deprecation(self, endpoint: Endpoint, response: httpx.Response) -> None:
        told = responses.deprecation(response)
        if told and endpoint.name not in self._deprecated:
            self._deprecated.add(endpoint.name)
            _log.warning("bitbucket.deprecated", endpoint=endpoint.name, **told)

    @asynccontextmanager
    async def download(self, endpoint: Endpoint, **parts: str | int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a file as they arrive, at most `file_max` of them.

        Redirects to a storage are followed without the credential. An interrupted download is resumed as long
        as the server proves that it is the same file; else ServerTrouble is raised, and the bytes so far must
        be discarded.
        """
        url = self.url(endpoint, None, **parts)

        async def begin(headers: Mapping[str, str]) -> Opened:
            return await self._open_file(self._new_request(endpoint, url, self._only), headers)

        file = Download(
            begin,
            self.clock,
            endpoint.name,
            most=self._file_max,
            minimum_rate=self.network.minimum_rate,
            progress=self._sender.progress,
        )
        await file.begin()
        try:
            async with aclosing(file.chunks()) as several:
                yield several
        finally:
            await file.close()

    async def _open_file(self, request: Request, headers: Mapping[str, str]) -> Opened:
        """Ask for a file until an answer is one. Whoever gets it closes it."""
        while True:
            sign_in = await self._choose(request)
            await self._sender.wait_for_budget(sign_in, request)
            async with AsyncExitStack() as held:
                try:
                    await held.enter_async_context(self._sender.slots)
                    received = await held.enter_async_context(self._open(sign_in, request, headers))
                    if received.is_file:
                        self._choice.note_success(request)
                        return Opened(received.response, held.pop_all())
                    body = await self._sender.read(received.response, request.endpoint)
                    failure = self._failure_of(sign_in, request.endpoint, received, body)
                except NETWORK_ERRORS as error:
                    failure = responses.failure_of_exception(request.endpoint, error)
                except CredentialRefused as error:
                    failure = Failure(error)
            if failure is None:
                text = f"{request.endpoint.name}: answered with something other than the file"
                failure = Failure(BadAnswer(text, endpoint=request.endpoint.name), retryable=True)
            await self._failed(request, sign_in, failure)

    def page_size(self, endpoint: Endpoint) -> int:
        """The page size to request: the endpoint's maximum, or what it last accepted."""
        return self._page_sizes.get(endpoint.name, endpoint.page_size)

    def page_size_refused(self, endpoint: Endpoint, refused: int) -> int:
        """The page size to request after `refused` was refused: 50, then none (0)."""
        smaller = 50 if refused > 50 else 0
        # Of several concurrent refusals only the first one counts.
        if self.page_size(endpoint) == refused:
            self._page_sizes[endpoint.name] = smaller
            _log.info("bitbucket.page_size_refused", endpoint=endpoint.name, refused=refused)
        return smaller


def _of(request: Request, failure: Failure, error: Exception | None = None) -> Failure:
    """What a failure means for this request: of a change more than of one that reads."""
    return failure if request.change is None else responses.failure_of_change(request.change, failure, error)


def _json_or_none(body: bytes) -> Json:
    """The JSON that a change was answered with. It succeeded all the same where there is none."""
    try:
        return loads(body)
    except NotCanonical:
        return None
