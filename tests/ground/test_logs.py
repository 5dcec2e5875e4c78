"""Logs: structured, on the chosen stream, and free of secrets."""

from __future__ import annotations

import io
import json
import logging

import pytest

from mirror import logs


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    logs.configure(log_format="json", verbosity=1, stream=out)
    return out


def test_an_event_is_one_json_object_with_its_fields(stream: io.StringIO) -> None:
    logs.get_logger("backup").info("backup.repository_saved", repository="acme/web", refs=3)
    event = json.loads(stream.getvalue())
    assert event["event"] == "backup.repository_saved"
    assert event["level"] == "info"
    assert (event["room"], event["repository"], event["refs"]) == ("backup", "acme/web", 3)
    assert event["ts"].endswith("Z")


@pytest.mark.parametrize(
    "leak",
    [
        "Authorization: Bearer abcdef0123456789",
        "authorization basic YW5uOnNlY3JldA==",
        "https://x-token-auth:sekret-value@bitbucket.org/acme/web.git",
        "ATCTT3xFfGN0secretsecret",
    ],
)
def test_what_looks_like_a_credential_is_blanked_without_being_registered(
    stream: io.StringIO, leak: str
) -> None:
    logs.get_logger("git").warning("git.failed", message=leak, nested={"list": [leak]})
    text = stream.getvalue()
    for secret in ("abcdef0123456789", "YW5uOnNlY3JldA", "sekret-value", "T3xFfGN0secretsecret"):
        assert secret not in text
    assert "[redacted]" in text


def test_a_registered_secret_is_blanked_in_fields_keys_and_tracebacks(stream: io.StringIO) -> None:
    logs.register_secret("correct horse battery")
    try:
        raise ValueError("password was correct horse battery")
    except ValueError:
        logs.get_logger("cli").exception(
            "cli.failed", **{"note correct horse battery": b"correct horse battery"}
        )
    assert "correct horse" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_records_of_the_standard_logger_are_redacted_too(stream: io.StringIO) -> None:
    logs.register_secret("another secret")
    logging.getLogger("some.library").warning("request with %s", "another secret")
    assert "another secret" not in stream.getvalue()
    assert "library.message" in stream.getvalue()


def test_quiet_keeps_warnings_only() -> None:
    out = io.StringIO()
    logs.configure(log_format="json", verbosity=-1, stream=out)
    logs.get_logger("x").info("x.fine")
    logs.get_logger("x").warning("x.odd")
    assert "x.odd" in out.getvalue()
    assert "x.fine" not in out.getvalue()
