"""Routes of single entries, derived from the routes of the lists in ITEMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mirror.simulator.api.paging import value_at
from mirror.simulator.api.routes import ROUTES
from mirror.simulator.api.routing import Call, Hidden, Listing, Route, RouteResult

_R = "/repositories/{workspace}/{repository}"
_W = "/workspaces/{workspace}"
_P = _W + "/projects/{project}"
_C = _R + "/commit/{commit}"
# The path of the list, the placeholder that follows it, and the field that its value is compared with.
ITEMS = (
    (_R + "/branch-restrictions", "restriction", "id"),
    (_R + "/default-reviewers", "reviewer", "uuid"),
    (_R + "/deploy-keys", "key", "id"),
    (_R + "/hooks", "hook", "uuid"),
    (_R + "/permissions-config/users", "permitted", "user.uuid"),
    (_R + "/permissions-config/groups", "group", "group.slug"),
    (_R + "/environments", "environment", "uuid"),
    (_R + "/deployments/", "deployment", "uuid"),
    (_R + "/pipelines-config/runners", "runner", "uuid"),
    (_R + "/pipelines_config/schedules", "schedule", "uuid"),
    (_R + "/pipelines_config/ssh/known_hosts", "host", "uuid"),
    (_R + "/pipelines_config/variables", "variable", "uuid"),
    (_R + "/pullrequests/{id}/tasks", "task", "id"),
    (_R + "/refs/tags", "tag", "name"),
    (_C + "/comments", "remark", "id"),
    (_C + "/reports", "report", "uuid"),
    (_C + "/reports/{report}/annotations", "annotation", "uuid"),
    (_W + "/hooks", "hook", "uuid"),
    (_W + "/members", "member", "user.uuid"),
    (_W + "/pipelines-config/runners", "runner", "uuid"),
    (_W + "/pipelines-config/variables", "variable", "uuid"),
    (_P + "/default-reviewers", "reviewer", "user.uuid"),
    (_P + "/deploy-keys", "key", "id"),
    (_P + "/permissions-config/users", "permitted", "user.uuid"),
    (_P + "/permissions-config/groups", "group", "group.slug"),
    ("/snippets/{workspace}/{snippet}/comments", "remark", "id"),
)


def _entry(listing: Callable[[Call], RouteResult], name: str, path: str) -> Callable[[Call], RouteResult]:
    """A handler for the entry of a list whose field `path` equals the placeholder `name`."""

    def handler(call: Call) -> RouteResult:
        found = listing(call)
        assert isinstance(found, Listing)
        for one in found.items:
            shown = found.render(one)
            if str(value_at(shown, path)) == call.names[name]:
                return shown
        raise Hidden("Resource not found")

    return handler


def _routes() -> list[Route]:
    lists = {route.template: route for route in ROUTES}
    found = [
        replace(
            lists[template],
            template=f"{template.rstrip('/')}/{{{name}}}",
            handler=_entry(lists[template].handler, name, path),
        )
        for template, name, path in ITEMS
    ]
    statuses = lists[_C + "/statuses"]
    handler = _entry(statuses.handler, "build", "key")
    return [*found, replace(statuses, template=_C + "/statuses/build/{build}", handler=handler)]


SINGLE_ITEMS: tuple[Route, ...] = tuple(_routes())
