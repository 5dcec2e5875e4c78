"""The fake is as strict as the published description, also with itself."""

from __future__ import annotations

from tests.forgejo.describe import OPERATIONS, describe
from tests.forgejo.description import Description


def test_the_description_has_every_operation_and_only_names() -> None:
    description = Description()
    assert tuple(description.data["operations"]) == OPERATIONS
    assert "MIT" in description.data["license"]
    assert "Forgejo" in description.data["source"]


def test_what_is_not_described_is_a_fault() -> None:
    found = Description()
    operation = "POST /repos/{owner}/{repo}/issues"
    body = {"title": "x", "labels": ["bug"], "colour": "red"}
    faults = found.faults_of_request(operation, {"page": ["1"]}, "text/plain", body, set())
    assert len(faults) == 4
    assert found.faults_of_request(operation, {}, "application/json", {"body": "x"}, set()) != []
    assert (
        found.faults_of_request(operation, {}, "application/json", {"title": "x", "labels": [1]}, set()) == []
    )
    assert found.faults_of_answer(operation, 201, {"number": "1"}) != []
    assert found.faults_of_answer(operation, 201, {"number": 1, "milestone": None}) == []
    assert found.faults_of_answer(operation, 409, {}) != []
    assert found.find("DELETE", "/api/v1/repos/acme/website") is None


def test_the_description_is_made_of_what_is_published() -> None:
    published = {
        "info": {"license": {"name": "MIT"}},
        "paths": {},
        "responses": {"Thing": {"schema": {"$ref": "#/definitions/Thing"}}},
        "definitions": {"Thing": {"type": "object", "properties": {"of": {"$ref": "#/definitions/Other"}}},
                        "Other": {"type": "object", "additionalProperties": {"type": "string"}}},
    }  # fmt: skip
    for name in OPERATIONS:
        method, path = name.split()
        parameter = {"name": "q", "in": "query", "type": "string", "description": "words"}
        operation = {"responses": {"200": {"$ref": "#/responses/Thing"}}, "parameters": [parameter]}
        published["paths"].setdefault(path, {})[method.lower()] = operation  # type: ignore[attr-defined]
    made = describe(published, "abc")
    assert list(made["schemas"]) == ["Other", "Thing"]
    assert made["operations"]["GET /user"] == {
        "parameters": [{"name": "q", "in": "query", "type": "string"}],
        "body": None,
        "answers": {"200": {"$ref": "#/definitions/Thing"}},
    }
