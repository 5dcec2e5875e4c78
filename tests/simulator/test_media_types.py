"""A client that accepts only JSON gets 406 if the response has another type, by the types in Atlassian's
description.

`openapi_media_types.json` has, for each GET in the description, the types of its responses and its statuses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.simulator import Switches
from mirror.simulator.api.all_routes import READS
from mirror.simulator.api.routing import JSON, OCTETS, Route
from tests.simulator.document import plain
from tests.simulator.helpers import Asking
from tests.simulator.test_conformance import UNDOCUMENTED, addresses, enrich

DOCUMENT: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "openapi_media_types.json").read_text(encoding="utf-8")
)["get"]
# The description names no type for these: the types are from its prose and from other clients.
UNDECLARED: dict[str, str | None] = {
    # "As such, the content-type is text/plain."
    "/repositories/{}/{}/patch/{}": "text/plain",
    "/repositories/{}/{}/diff/{}": "text/plain",
    # "The file's mime type is derived from its filename."
    "/snippets/{}/{}/{}/files/{}": None,
    # Keys, as text: they have no schema, although every object of the API has one.
    "/workspaces/{}/settings/gpg/public-key": "text/plain",
    # Lists and objects whose schema the description lacks; clients read them as JSON.
    "/repositories/{}/{}/downloads": JSON,
    "/repositories/{}/{}/pullrequests/activity": JSON,
    "/repositories/{}/{}/pullrequests/{}/activity": JSON,
    "/repositories/{}/{}/pullrequests/{}/commits": JSON,
    **{
        f"/repositories/{{}}/{{}}/pipelines/{{}}/steps/{{}}/{name}": JSON
        for name in (
            "test_reports",
            "test_reports/test_cases",
            "test_reports/test_cases/{}/test_case_reasons",
        )
    },
}


def documented(route: Route) -> dict[str, list[str]] | None:
    return next((told for path, told in DOCUMENT.items() if plain(path) == plain(route.template)), None)


@pytest.mark.parametrize("route", READS, ids=lambda route: route.template)
def test_the_types_are_those_of_the_document(route: Route) -> None:
    told = documented(route)
    if told is None:
        assert route.template in UNDOCUMENTED
        return
    assert route.only_redirects == (told["codes"][0].startswith("3"))
    if route.only_redirects:
        return
    if told["2xx"]:
        assert route.media in told["2xx"]
    elif OCTETS in told["other"]:
        assert route.media == OCTETS
    else:
        assert route.media == UNDECLARED[plain(route.template)]


@pytest.mark.parametrize("heed", [True, False])
async def test_what_has_no_answer_of_the_types_asked_for_is_refused(tmp_path: Path, heed: bool) -> None:
    switches = Switches(issue_tracker=True, redirects_honour_accept=heed, diffs_honour_accept=heed)
    ask = Asking(tmp_path, switches=switches)
    enrich(ask.world)
    statuses: dict[str, set[Any]] = {}
    for route in READS:
        if route.kinds is not None:
            continue
        first = next(addresses(ask.world, route))
        good = "text/csv, */*;q=0.1" if route.media != JSON else "application/json"
        bad = JSON if route.media != JSON else "text/html, application/json;q=0"
        is_heeded = heed or not (route.only_redirects or route.is_of_diff)
        assert ((await ask(first, accept=bad)).status_code == 406) == is_heeded, first
        assert (await ask(first, accept=good)).status_code != 406, first
        statuses.setdefault(str(route.media), set()).add(route.template)
    assert set(statuses) == {JSON, OCTETS, "text/plain", "None"}
