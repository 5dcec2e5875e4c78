"""Makes `description.json`: what Forgejo publishes of the operations that a restore uses, in few words.

    python -m tests.forgejo.describe v1_json.tmpl COMMIT > tests/forgejo/description.json

The source is `templates/swagger/v1_json.tmpl` of Forgejo's repository. It says of itself that it "is
distributed under the MIT license for the purpose of interoperability". Only names, types and statuses are
kept: no text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_R = "/repos/{owner}/{repo}"
OPERATIONS = (
    "GET /user",
    "GET /orgs/{org}",
    "POST /user/repos",
    "POST /orgs/{org}/repos",
    f"GET {_R}",
    f"PATCH {_R}",
    *(
        f"{method} {_R}/{path}"
        for path in (
            "labels", "milestones", "issues", "issues/{index}/comments", "issues/{index}/assets", "pulls",
            "releases", "releases/{id}/assets", "hooks", "branch_protections", "keys",
        )
        for method in ("GET", "POST")
    ),
    f"GET {_R}/wiki/pages",
    f"POST {_R}/wiki/new",
)  # fmt: skip
_KEPT = ("type", "format", "enum", "required")
_OF_PARAMETER = ("name", "in", "type", "required", "enum")
_PREFIX = "#/definitions/"


def describe(published: dict[str, Any], commit: str) -> dict[str, Any]:
    """The part of the published description that is kept."""
    operations = {name: _operation(published, name) for name in OPERATIONS}
    schemas: dict[str, Any] = {}
    todo = [name for one in operations.values() for name in _named(one)]
    while todo:
        name = todo.pop()
        if name not in schemas:
            schemas[name] = _schema(published["definitions"][name])
            todo += _named(schemas[name])
    return {
        "source": f"Forgejo, templates/swagger/v1_json.tmpl, commit {commit}",
        "license": published["info"]["license"]["name"],
        "operations": operations,
        "schemas": dict(sorted(schemas.items())),
    }


def _operation(published: dict[str, Any], name: str) -> dict[str, Any]:
    method, path = name.split()
    found = published["paths"][path][method.lower()]
    parameters, body = [], None
    for one in found.get("parameters", ()):
        if one["in"] == "body":
            body = _schema(one["schema"])
        else:
            parameters.append({key: one[key] for key in _OF_PARAMETER if key in one})
    answers = {}
    for status, answer in found["responses"].items():
        if "$ref" in answer:
            answer = published["responses"][answer["$ref"].rpartition("/")[2]]
        answers[status] = _schema(answer["schema"]) if "schema" in answer else None
    return {"parameters": parameters, "body": body, "answers": answers}


def _schema(found: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema of it. What has properties has no others."""
    if "$ref" in found:
        return {"$ref": found["$ref"]}
    made: dict[str, Any] = {key: found[key] for key in _KEPT if key in found}
    if "properties" in found:
        made["properties"] = {name: _schema(one) for name, one in sorted(found["properties"].items())}
        made["additionalProperties"] = False
    if isinstance(found.get("additionalProperties"), dict):
        made["additionalProperties"] = _schema(found["additionalProperties"])
    if "items" in found:
        made["items"] = _schema(found["items"])
    return made


def _named(value: Any) -> Iterator[str]:
    """The definitions that are named anywhere in it."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref" and isinstance(one, str):
                yield one.removeprefix(_PREFIX)
            else:
                yield from _named(one)
    elif isinstance(value, list):
        for one in value:
            yield from _named(one)


if __name__ == "__main__":
    source, of = sys.argv[1:]
    json.dump(describe(json.loads(Path(source).read_text()), of), sys.stdout, indent=1)
    sys.stdout.write("\n")
