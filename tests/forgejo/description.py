"""What Forgejo publishes of its API, as a judge of requests and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft7Validator, FormatChecker

API = "/api/v1"
# Answers that the description lacks, and that its source gives: an owner's second repository of a name, and
# an organisation that does not exist.
_BEYOND = {("POST /orgs/{org}/repos", 409), ("POST /orgs/{org}/repos", 422), ("POST /user/repos", 409)}
# Any operation refuses an unknown token, and a token without the scope.
_OF_ALL = {401, 403}
_FORMATS = FormatChecker(())


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_FORMATS.checks("date-time", ValueError)(_is_time)


@dataclass(frozen=True)
class Asked:
    """The operation that a request is for, by its name (`GET /repos/{owner}/{repo}`), and the parts of its
    path."""

    operation: str
    parts: Mapping[str, str]


class Description:
    """The published description. It judges by what is written there, not by what our client sends."""

    def __init__(self) -> None:
        self.data = json.loads(Path(__file__).with_name("description.json").read_text())
        self._patterns = {name: _pattern(name) for name in self.data["operations"]}
        self._schemas = self.data["schemas"]
        # Answers have null where there is nothing: Go writes an empty pointer so.
        self._answered = {name: _nullable(schema) for name, schema in self._schemas.items()}

    def find(self, method: str, path: str) -> Asked | None:
        """The operation that a request is for; None where none is described."""
        for name, pattern in self._patterns.items():
            if name.startswith(f"{method} ") and (found := pattern.fullmatch(path)):
                return Asked(name, {key: unquote(value) for key, value in found.groupdict().items()})
        return None

    def faults_of_request(
        self, operation: str, query: Mapping[str, list[str]], content_type: str, body: Any, form: set[str]
    ) -> list[str]:
        """What the description does not allow of a request; `form` are the fields of a multipart body."""
        described = self.data["operations"][operation]
        by_place: dict[str, dict[str, Any]] = {"query": {}, "formData": {}, "path": {}}
        for one in described["parameters"]:
            by_place[one["in"]][one["name"]] = one
        faults = [f"unknown query {name}" for name in query if name not in by_place["query"]]
        for name, values in query.items():
            if by_place["query"].get(name, {}).get("type") == "integer" and not values[0].isdecimal():
                faults.append(f"query {name} is not a number")
        faults += [f"unknown field {name}" for name in form if name not in by_place["formData"]]
        faults += [
            f"no field {name}"
            for name, one in by_place["formData"].items()
            if one.get("required") and name not in form
        ]
        schema = described["body"]
        if schema is None:
            return faults + (["a body where none is described"] if body is not None else [])
        if content_type.partition(";")[0] != "application/json":
            faults.append(f"a body of type {content_type}")
        return faults + self._faults(schema, self._schemas, body)

    def faults_of_answer(self, operation: str, status: int, body: Any) -> list[str]:
        """What the description does not allow of an answer."""
        answers = self.data["operations"][operation]["answers"]
        if str(status) not in answers:
            is_known = (operation, status) in _BEYOND or status in _OF_ALL or status >= 500 or status == 429
            return [] if is_known else [f"a status that is not described: {status}"]
        schema = answers[str(status)]
        return [] if schema is None else self._faults(_nullable(schema), self._answered, body)

    def _faults(self, schema: Any, definitions: Any, value: Any) -> list[str]:
        whole = (
            {**schema, "definitions": definitions}
            if "$ref" not in schema
            else {"allOf": [schema], "definitions": definitions}
        )
        judge = Draft7Validator(whole, format_checker=_FORMATS)
        return [f"{one.json_path}: {one.message}" for one in judge.iter_errors(value)]


def _pattern(name: str) -> re.Pattern[str]:
    path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", name.partition(" ")[2])
    return re.compile(API + path)


def _nullable(schema: Any) -> Any:
    """The schema, where null may stand for any property and item."""
    if "$ref" in schema:
        return schema
    made = dict(schema)
    for key in ("properties",):
        if key in made:
            made[key] = {
                name: {"anyOf": [_nullable(one), {"type": "null"}]} for name, one in made[key].items()
            }
    if isinstance(made.get("items"), dict):
        made["items"] = _nullable(made["items"])
    return made
