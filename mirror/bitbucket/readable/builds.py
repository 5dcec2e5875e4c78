"""Pipelines, with their steps, logs and test reports."""

from __future__ import annotations

from mirror.bitbucket.readable.parts import get, lacking, number, objects, person, pointer, string
from mirror.bitbucket.readable.values import Case, Pipeline, Pointer, Step
from mirror.model import Json, JsonObject

_COUNTS = {
    "passed": "number_of_successful_test_cases",
    "failed": "number_of_failed_test_cases",
    "in error": "number_of_error_test_cases",
    "skipped": "number_of_skipped_test_cases",
}


def pipeline(document: JsonObject) -> Pipeline:
    """The pipeline of a document."""
    data = get(document, "pipeline")
    target = get(data, "target")
    return Pipeline(
        number(data, "build_number") or 0,
        _state(data),
        string(target, "ref_name") or string(target, "source"),
        string(target, "commit", "hash"),
        string(data, "trigger", "name"),
        person(data, "creator") if get(data, "creator") else "",
        string(data, "created_on"),
        string(data, "completed_on"),
        _first(number(data, "duration_in_seconds"), number(data, "build_seconds_used")),
        [_step(one, document) for one in objects(document, "steps")],
        lacking(document, "steps"),
    )


def _first(*values: int | None) -> int | None:
    return next((one for one in values if one is not None), None)


def _state(data: Json) -> str:
    """The result where there is one, else how far it is."""
    return (
        string(data, "state", "result", "name")
        or string(data, "state", "stage", "name")
        or string(data, "state", "name")
    )


def _step(step: JsonObject, document: JsonObject) -> Step:
    uuid = string(step, "uuid")
    report = get(document, "test_reports", uuid)
    counts = [(word, number(report, "report", key) or 0) for word, key in _COUNTS.items()]
    return Step(
        string(step, "name") or "Step",
        _state(step),
        string(step, "started_on"),
        number(step, "duration_in_seconds"),
        [
            string(one, "command") or string(one, "name")
            for kind in ("setup_commands", "script_commands", "teardown_commands")
            for one in objects(step, kind)
        ],
        _logs(step, uuid, get(document, "logs")),
        counts if isinstance(report, dict) else (),
        [_case(one) for one in objects(report, "cases")],
    )


def _logs(step: JsonObject, uuid: str, logs: Json) -> list[tuple[str, Pointer]]:
    names = [("", uuid)]
    names += [(string(one, "name") or "service", string(one, "uuid")) for one in objects(step, "services")]
    found = ((name, pointer(get(logs, key))) for name, key in names)
    return [(name, log) for name, log in found if log is not None]


def _case(data: JsonObject) -> Case:
    case = get(data, "case")
    reasons = [
        "\n".join(text for text in (string(one, "message"), string(one, "stack_trace")) if text)
        for one in objects(data, "reasons")
    ]
    name = string(case, "fully_qualified_name") or string(case, "name")
    return Case(name, string(case, "status"), reasons)
