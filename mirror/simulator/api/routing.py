"""Routes of the API, the calls of a route, and the exceptions that refuse a call."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest, Document, Pairs
from mirror.simulator.api.render import Renderer
from mirror.simulator.authentication import can_see, has_scope
from mirror.simulator.switches import Switches
from mirror.simulator.world.builds import Pipeline
from mirror.simulator.world.discussions import Issue, PullRequest
from mirror.simulator.world.people import Token
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace, World

ISSUES_ARE_GONE = "CHANGE-3071 - Functionality has been deprecated"
NOT_YOURS = (
    "You may not have access to this repository or it no longer exists in this workspace. If you think "
    "this repository exists and you have access, make sure you are authenticated."
)


JSON = "application/json"
OCTETS = "application/octet-stream"


class Hidden(Exception):
    """404, or with `scope` 403: the resource does not exist, or the credential lacks the scope."""

    def __init__(self, message: str, scope: str | None = None, long: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.scope = scope
        self.long = long


class Forbidden(Exception):
    """403, for another reason than a missing scope."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthorized(Exception):
    """401: the route requires a credential."""


class Gone(Exception):
    """410: the resource is retired."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Moved(Exception):
    """301: the repository has another path now."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True)
class Listing:
    """A list: its items, and the function that renders one.

    `keys` has, by field, a sort key for the items. A list sorted by one of these renders only the
    page that is returned.
    """

    items: Sequence[Any]
    render: Callable[[Any], Document]
    keys: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


RouteResult = Document | Listing | Response


@dataclass(frozen=True)
class Call:
    """One call of a route."""

    world: World
    switches: Switches
    render: Renderer
    token: Token
    names: dict[str, str]
    pairs: Pairs
    storage: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """The query, as text."""
        return urlencode(list(self.pairs))

    def workspace(self) -> SimWorkspace:
        """The workspace that the path names, if the credential may see it."""
        found = self.world.workspace(self.names["workspace"])
        foreign = found is not None and (
            self.token.workspace not in (None, found.slug)
            or (self.token.user is not None and not self.token.user.belongs_to(found.slug))
        )
        if found is None or foreign:
            raise Hidden(f"No workspace with identifier '{self.names['workspace']}'.")
        return found

    def repository(self) -> SimRepository:
        """The repository that the path names, if the credential may see it."""
        workspace, slug = self.names["workspace"], self.names["repository"]
        found = self.world.repository(workspace, slug)
        if found is None:
            moved = self.world.moved_to(workspace, slug)
            if (
                moved is not None
                and can_see(self.token, moved)
                and self.switches.renamed_repositories_redirect
            ):
                rest = self.names.get("rest", "")
                path = f"/repositories/{moved.full_name}{rest}"
                raise Moved(path + (f"?{self.query}" if self.query else ""))
        if found is not None and not can_see(self.token, found):
            if self.switches.lists_show_unreadable and self.token.workspace == found.workspace.slug:
                raise Forbidden("Your credentials do not give access to this repository.")
            found = None
        if found is None:
            raise Hidden(NOT_YOURS)
        return found

    def pull_request(self) -> PullRequest:
        """The pull request that the path names."""
        found = self.repository().pull_requests.get(number(self.names["id"]))
        if found is None:
            raise Hidden("Pull request not found")
        return found

    def issue(self) -> Issue:
        """The issue that the path names."""
        repository = self.tracker()
        found = repository.issues.get(number(self.names["id"]))
        if found is None:
            raise Hidden("Issue not found")
        return found

    def tracker(self) -> SimRepository:
        """The repository, if issue trackers exist. The 410 takes precedence over a missing scope."""
        repository = self.repository()
        if self.switches.deprecation_headers:
            self.headers["Deprecation"] = "Fri, 20 Feb 2026 00:00:00 GMT"
            self.headers["Sunset"] = "Fri, 21 Aug 2026 00:00:00 GMT"
            log = "https://developer.atlassian.com/cloud/bitbucket/changelog/#CHANGE-3071"
            self.headers["Link"] = f'<{log}>; rel="deprecation"'
        if not self.switches.issue_tracker:
            raise Gone(ISSUES_ARE_GONE)
        if not has_scope(self.token, "issue"):
            raise Hidden("no scope", scope="issue")
        return repository

    def builds(self) -> SimRepository:
        """The repository, if pipelines are enabled in it."""
        repository = self.repository()
        if not repository.pipelines_enabled and self.switches.disabled_pipelines_are_403:
            raise Forbidden("Pipelines is not enabled for this repository.")
        return repository

    def pipeline(self) -> Pipeline:
        """The pipeline that the path names, by uuid with braces or by number."""
        key = self.names["pipeline"]
        repository = self.builds()
        if not key.isdigit():
            need_braces(key)
        found = repository.pipeline(key)
        if found is None:
            raise Hidden("Pipeline not found")
        return found

    def hidden(self, entry: Document) -> Document:
        """The fields that an entry of a list omits: the people of a pull request."""
        if entry.get("type") != "pullrequest" or not self.switches.participants_in_lists:
            return {}
        return self.render.people(self.repository().pull_requests[entry["id"]])


def accepted_types(accept: str) -> list[str]:
    """The media types and ranges that an Accept header names, without those that it rules out (`q=0`)."""
    found = []
    for one in (accept or "*/*").split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        if not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters):
            found.append(name)
    return found


def always(_: Switches) -> bool:
    """True for all switches."""
    return True


def need_braces(key: str) -> None:
    """Raise BadRequest for a uuid without braces."""
    if not (key.startswith("{") and key.endswith("}")):
        raise BadRequest(f"{key} is not a valid uuid")


def number(text: str) -> int:
    """The number in a path; -1 where it is none."""
    return int(text) if text.isdigit() else -1


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.sub(r"([.])", r"\\\1", template)
    # Paths, names of refs and specs of diffs may contain slashes.
    slashed = re.sub(r"\{(spec|branch|tag)\}", r"(?P<\1>.+)", escaped)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", slashed))


def address(template: str, raw: str) -> dict[str, str] | None:
    """The values of the placeholders of a template, decoded; None where the path does not match."""
    found = _pattern(template).fullmatch(raw)
    if found is None:
        return None
    names = {name: unquote(value) for name, value in found.groupdict().items()}
    if "repository" in names:
        names["rest"] = "/" + "/".join(raw.split("/")[4:]) if raw.count("/") > 3 else ""
    return names


@dataclass(frozen=True)
class Route:
    """A path template with its handler.

    `scope` is the classic scope that it requires, `long` the scope of API tokens where that is not the
    long name of `scope`. `most` is the page cap. `filters` and `sorts`: whether `q` and `sort` work;
    `has_next`: whether lists have `next`; `numbered`: whether pages have only numbers. `permissions`
    marks routes that access tokens may not use. `public` routes need no credential. `kinds` are the
    kinds of credentials that may use the route; None: all.
    """

    template: str
    scope: str | None
    handler: Callable[[Call], RouteResult]
    most: Callable[[Switches], int] = lambda _: 100
    filters: bool = False
    sorts: Callable[[Switches], bool] = lambda _: False
    has_next: Callable[[Switches], bool] = lambda _: True
    public: bool = False
    kinds: tuple[str, ...] | None = None
    numbered: bool = False
    long: str | None = None
    permissions: bool = False
    media: str | None = JSON
    only_redirects: bool = False
    is_of_diff: bool = False

    def is_acceptable(self, accept: str, switches: Switches) -> bool:
        """Whether the route can serve the Accept header `accept`; otherwise the response is 406."""
        if self.is_of_diff and not switches.diffs_honour_accept:
            return True
        if self.only_redirects and not switches.redirects_honour_accept:
            return True
        if self.media is None:  # any type but that of the API's own documents
            return any(one != JSON for one in accepted_types(accept))
        group = self.media.partition("/")[0] + "/*"
        return any(one in (self.media, group, "*/*") for one in accepted_types(accept))

    def is_open_to(self, token: Token) -> bool:
        """Whether a credential has the scope for it."""
        if token.kind == "api_token" and self.long is not None:
            return self.long in token.scopes
        return self.scope is None or has_scope(token, self.scope)

    def match(self, raw: str, *, slash_counts: bool) -> dict[str, str] | None:
        """The values of the placeholders, decoded; None where the path does not match."""
        template = self.template
        if template.endswith("/") and not slash_counts:
            template, raw = template.rstrip("/"), raw.rstrip("/")
        return address(template, raw)
