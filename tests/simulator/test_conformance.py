"""Every answer of the simulator against Atlassian's own description of the API."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from mirror.simulator import Simulator, Switches, World
from mirror.simulator.sample import SCOPES, populate

SPEC = Path(__file__).parents[2].parent / "shared" / "spec" / "bitbucket-openapi.json"

# Where real answers differ from the document, each with its reason: place and fault.
KNOWN_DIFFERENCES = {
    ("parent", "'type' is a required property"): "a reply names its parent by id and links alone",
    ("comment", "'type' is a required property"): "a task names its comment by id and links alone",
    ("links", "'type' is a required property"): "links are plain; the document makes pipelines' an object",
    ("self", "'type' is a required property"): "as above",
    ("pullrequest", "'type' is a required property"): "activity names its pull request in short",
}


def paths(world: World) -> list[tuple[str, str]]:
    """Each GET of the document that the simulator has, with an address in the sample world."""
    repository = "/repositories/acme/website"
    pipeline = world.workspaces["acme"].repositories["website"].pipelines[1]
    uuid, step = pipeline.uuid, pipeline.steps[0].uuid
    return [
        ("/workspaces/{workspace}/members", "/workspaces/acme/members"),
        ("/workspaces/{workspace}/projects", "/workspaces/acme/projects"),
        ("/repositories/{workspace}", "/repositories/acme"),
        ("/repositories/{workspace}/{repo_slug}", repository),
        ("/repositories/{workspace}/{repo_slug}/pullrequests", f"{repository}/pullrequests?state=MERGED"),
        (
            "/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}",
            f"{repository}/pullrequests/1",
        ),
        (
            "/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/comments",
            f"{repository}/pullrequests/1/comments",
        ),
        (
            "/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/tasks",
            f"{repository}/pullrequests/1/tasks",
        ),
        (
            "/repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/statuses",
            f"{repository}/pullrequests/1/statuses",
        ),
        ("/repositories/{workspace}/{repo_slug}/issues", f"{repository}/issues"),
        (
            "/repositories/{workspace}/{repo_slug}/issues/{issue_id}/comments",
            f"{repository}/issues/1/comments",
        ),
        ("/repositories/{workspace}/{repo_slug}/pipelines", f"{repository}/pipelines/"),
        (
            "/repositories/{workspace}/{repo_slug}/pipelines/{pipeline_uuid}/steps",
            f"{repository}/pipelines/{uuid}/steps/",
        ),
        (f"step {step}", f"{repository}/pipelines/{uuid}/steps/"),
    ]


def schema_of(spec: dict[str, Any], template: str) -> dict[str, Any] | None:
    """The schema of the 200 answer of a GET, made checkable by jsonschema."""
    operation = spec["paths"].get(template, {}).get("get")
    if operation is None:
        return None
    content = operation["responses"].get("200", {}).get("content", {})
    schema: dict[str, Any] | None = content.get("application/json", {}).get("schema")
    return schema


_PASSED_OVER = ("discriminator", "format", "additionalProperties")


def checkable(value: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` becomes a type, times become patterns.

    Bitbucket's own answers hold null where the document does not say so (a merge commit that is not
    there yet, a fork that is gone), and `type` and `links` that the document forbids (in the commit of
    a pull request's source, say). So null is accepted, and more properties than listed are.
    """
    if isinstance(value, list):
        return [checkable(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: checkable(item) for key, item in value.items() if key not in _PASSED_OVER}
    if isinstance(result.get("type"), str) and isinstance(value.get("type"), str):
        result["type"] = [result["type"], "null"]
        if "enum" in result:
            result["enum"] = [*result["enum"], None]
    return result


@pytest.mark.skipif(not SPEC.is_file(), reason="Atlassian's document is not beside the project")
@pytest.mark.parametrize("switches", [Switches.default(), Switches.inverted()], ids=["default", "inverted"])
def test_answers_fit_the_published_schemas(tmp_path: Path, switches: Switches) -> None:
    spec = json.loads(SPEC.read_text(encoding="utf-8"))
    components = {"components": {"schemas": checkable(spec["components"]["schemas"])}}
    world = World(tmp_path)
    populate(world)
    website = world.workspaces["acme"].repositories["website"]
    website.add_issue("Broken link", author=world.users["ann@acme.example"], comments=["Where?"])
    token = world.add_workspace_access_token("acme", SCOPES | {"issue"})
    checked = 0
    with Simulator(world, switches=switches) as simulator:
        for template, path in paths(world):
            schema = schema_of(spec, template)
            if schema is None:
                continue
            response = httpx.get(simulator.api_url + path, headers={"Authorization": f"Bearer {token}"})
            if response.status_code == 410 and "/issues" in path and not switches.issue_tracker:
                continue
            assert response.status_code == 200, f"{path}: {response.text}"
            validator = jsonschema.Draft202012Validator({**checkable(schema), **components})
            faults = [
                f"{list(error.path)}: {error.message[:200]}"
                for error in validator.iter_errors(response.json())
                if (error.path[-1] if error.path else "", error.message) not in KNOWN_DIFFERENCES
            ]
            assert faults == [], f"{template}: {faults[:5]}"
            checked += 1
    assert checked >= 9


CLIENT_ROOMS = ("bitbucket", "auth", "collect", "discovery", "backup", "git")


def test_the_simulator_and_the_client_share_no_code() -> None:
    package = Path(__file__).parents[2] / "mirror"
    for path in (package / "simulator").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.match(r"\s*(?:from|import)\s+(mirror[\w.]*)", line)
            assert found is None or found[1].startswith("mirror.simulator"), f"{path}: {line}"
    for room in CLIENT_ROOMS:
        for path in (package / room).rglob("*.py"):
            assert "mirror.simulator" not in path.read_text(encoding="utf-8"), path
