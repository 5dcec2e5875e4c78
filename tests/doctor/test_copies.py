"""Doctor reads what a copy's bucket does against whoever deletes, and says what is unknown."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from mirror.config import Config, load_text
from mirror.doctor.checks import Check
from mirror.doctor.copies import copy_checks
from mirror.store.writing.writer import create_or_open
from tests.bucket.servers import ADMIN, NOBODY, READER, RESTORER, Keys, ObjectServer, moto_server, seaweed
from tests.clock import FakeClock
from tests.ports import unused_port

__all__ = ["moto_server", "seaweed"]


def config_of(folder: Path, server: ObjectServer, bucket: str, more: str = "", schedule: str = "") -> Config:
    text = (
        "store: s\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
        f"{schedule}copies:\n  - to: s3://{bucket}/acme\n    endpoint: {server.endpoint}\n{more}"
    )
    config = load_text(text, "config.yaml", folder=folder)
    create_or_open(config.store, now=FakeClock().now()).close()
    return config


def checks(config: Config, server: ObjectServer, keys: Keys = ADMIN) -> list[Check]:
    return asyncio.run(copy_checks(config, FakeClock(), server.environment(keys)))


SCHEDULE = "schedule: {backup: every 4h, copy: after backup}\n"


def test_a_bucket_that_keeps_what_it_is_given_is_well(tmp_path: Path, seaweed: ObjectServer) -> None:
    bucket = seaweed.make_bucket(locked=True, days=30)
    config = config_of(tmp_path, seaweed, bucket, "    protect: 90d\n", SCHEDULE)
    first, sends, lock = checks(config, seaweed)
    assert (first.state, sends.state, lock.state) == ("ok", "ok", "ok")
    assert "not begun yet" in first.text and "not encrypted" in first.text
    assert "for 30 days (compliance mode: nobody can shorten that)" in lock.text
    assert seaweed.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0, "it wrote nothing"
    assert "Uploads" not in seaweed.client().list_multipart_uploads(Bucket=bucket)


def test_a_retention_that_ends_is_told(tmp_path: Path, seaweed: ObjectServer) -> None:
    config = config_of(tmp_path, seaweed, seaweed.make_bucket(locked=True, days=30))
    _, _, lock, schedule = checks(config, seaweed)
    assert lock.state == "warn" and "no longer protected" in lock.text
    assert lock.remedy is not None and "protect" in lock.remedy
    assert schedule.state == "warn" and "no schedule.copy" in schedule.text


@pytest.mark.parametrize("locked", [False, True])
def test_a_bucket_without_retention_is_told(tmp_path: Path, moto_server: ObjectServer, locked: bool) -> None:
    config = config_of(tmp_path, moto_server, moto_server.make_bucket(locked=locked), schedule=SCHEDULE)
    _, _, lock = checks(config, moto_server)
    assert lock.state == "warn" and "no default retention" in lock.text
    assert ("stays as a version" in lock.text) == locked
    assert "whether its key may delete is unknown" in lock.text


def test_what_may_not_be_read_is_unknown_and_not_well(tmp_path: Path, seaweed: ObjectServer) -> None:
    config = config_of(tmp_path, seaweed, seaweed.make_bucket(locked=True, days=30), schedule=SCHEDULE)
    found = checks(config, seaweed, READER)
    assert all(one.state != "ok" for one in found if "immutability" in one.name)
    assert any(re.search("unknown|denied|may not", one.text) for one in found)


def test_faults_have_their_own_exit_codes(tmp_path: Path, seaweed: ObjectServer) -> None:
    bucket = seaweed.make_bucket()
    first, sends, _ = checks(config_of(tmp_path, seaweed, bucket, schedule=SCHEDULE), seaweed, RESTORER)
    assert (first.state, sends.state) == ("ok", "fail") and "may not send" in sends.text
    dead = ObjectServer(f"http://127.0.0.1:{unused_port()}")
    [unreachable] = checks(config_of(tmp_path, dead, bucket, schedule=SCHEDULE), dead)
    assert (unreachable.state, unreachable.code) == ("fail", 75)
    [refused] = checks(config_of(tmp_path, seaweed, bucket, schedule=SCHEDULE), seaweed, NOBODY)
    assert (refused.state, refused.code) == ("fail", 12)
    [missing] = checks(config_of(tmp_path, seaweed, "no-such-bucket-here", schedule=SCHEDULE), seaweed)
    assert (missing.state, missing.code) == ("fail", 10)
    keys = (
        "    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]\n"
        "    names_key: {file: nowhere}\n"
    )
    [unread] = checks(config_of(tmp_path, seaweed, bucket, keys, SCHEDULE), seaweed)
    assert (unread.state, unread.code) == ("fail", 2)
