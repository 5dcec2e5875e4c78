"""A recording can be shared: it keeps structure, and no personal data."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.bitbucket import fields
from mirror.bitbucket.client.client import Answer
from mirror.bitbucket.endpoints import PULL_REQUESTS, REPOSITORY
from mirror.bitbucket.recording import Recording
from mirror.model import dumps, is_uuid

UUID = "{12345678-1234-1234-1234-1234567890ab}"
FULL = "0123456789abcdef0123456789abcdef01234567"
PRIVATE: dict[str, Any] = {
    "type": "pullrequest",
    "id": 7,
    "title": "Fix the payroll of Ann Example",
    "state": "MERGED",
    "created_on": "2026-10-01T10:00:00.123456+00:00",
    "source": {"commit": {"hash": FULL[:12]}, "branch": {"name": "ann/payroll"}},
    "author": {"uuid": UUID, "display_name": "Ann Example", "type": "user", "nickname": "ann"},
    "summary": {"raw": "call ann@example.test", "html": "<p>call</p>"},
    "links": {
        "self": {"href": "https://api.bitbucket.org/2.0/repositories/acme/payroll/pullrequests/7"},
        "html": {"href": "https://git.acme.example/acme/payroll?token=abc"},
    },
    "acme-custom Field": {"name": "ACME", "key": "PAY"},
    "draft": False,
    "closed_by": None,
    "task_count": 3,
}
WORDS = ["Ann", "ann", "payroll", "Fix", "acme", "ACME", "PAY", "token", FULL[:12], UUID[1:9], "<p>"]


def test_names_addresses_and_texts_are_gone_and_shapes_stay() -> None:
    headers = {"content-type": "application/json", "x-ratelimit-limit": "1000", "set-cookie": "session=1"}
    answer = Answer(
        {"values": [PRIVATE] * 9, "size": 9, "next": "https://api.bitbucket.org/acme?page=2"}, headers
    )
    kept = Recording().redacted(PULL_REQUESTS, answer)
    text = dumps(kept["body"]).decode()
    assert not [word for word in WORDS if word in text]
    assert "set-cookie" not in kept["headers"]
    assert kept["headers"]["x-ratelimit-limit"] == "1000"
    one = kept["body"]["values"][0]
    assert len(kept["body"]["values"]) == 3
    assert (one["id"], one["state"], one["draft"], one["closed_by"]) == (7, "MERGED", False, None)
    assert one["created_on"] == PRIVATE["created_on"]
    assert is_uuid(one["author"]["uuid"])
    assert len(fields.pull_request_head(one) or "") == 12
    assert one["links"]["html"]["href"].startswith("https://host.example/")


def test_the_same_text_has_the_same_stand_in_and_a_full_name_stays_one() -> None:
    data = {"uuid": UUID, "slug": "payroll", "full_name": "acme/payroll", "workspace": {"slug": "acme"}}
    body = Recording().redacted(REPOSITORY, Answer(data, {}))["body"]
    assert body["full_name"] == f"{body['workspace']['slug']}/{body['slug']}"
    assert fields.repository(body, workspace="x").full_name == body["full_name"]


def test_stand_ins_are_salted_for_each_recording() -> None:
    answer = Answer({"full_name": "acme/payroll", "uuid": UUID, "hash": FULL, "values": {"pay day": 1}}, {})
    first, second = Recording(), Recording()
    one, other = (dumps(each.redacted(REPOSITORY, answer)["body"]) for each in (first, second))
    assert one == dumps(first.redacted(REPOSITORY, answer)["body"])
    assert len(one) == len(other)
    values = [set(re.findall(rb'"(?:text-|\{)?([0-9a-f]{8})', body)) for body in (one, other)]
    assert len(values[0]) >= 4 and not values[0] & values[1]
    # Not equal to the unsalted hash of a guessed name.
    guess = hashlib.sha256(b"stand-in payroll").hexdigest()[:8].encode()
    assert guess not in one + other


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=12,
    )
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_any_document_can_be_recorded(data: Any) -> None:
    json.dumps(Recording().redacted(REPOSITORY, Answer(data, {"content-type": "application/json"})))
