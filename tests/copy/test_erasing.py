"""`mirror erase` says what copies still hold, and until when Object Lock forbids that it goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.bucket.versions import LockState
from mirror.cli.commands.erase_copies import retained
from tests.bucket.servers import ObjectServer
from tests.copy.test_reading import VERSIONS, unpack
from tests.e2e.helpers import mirror

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_until_when_it_is_retained() -> None:
    locked = LockState(versioning=True, has_default=True, mode="compliance", days=30)
    assert "until 2026-12-29 at the latest: before, nobody can" in retained(None, locked, NOW)
    assert "until 2027-02-27 at the latest" in retained(timedelta(days=90), locked, NOW)
    free = LockState(versioning=True, has_default=False)
    assert "no default retention" in retained(None, free, NOW)
    unknown = LockState(versioning=None, has_default=None, unknown=("denied",))
    assert retained(None, unknown, NOW).endswith("is unknown: denied")
    assert "2027-02-27, or longer: denied" in retained(timedelta(days=90), unknown, NOW)


def test_erase_says_it_before_and_after(seaweed: ObjectServer, tmp_path: Path) -> None:
    store, bucket = unpack(VERSIONS[-1], tmp_path), seaweed.make_bucket(locked=True, days=3)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-token")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"store: {store}\nworkspaces: [{{workspace: acme, credential: {{kind: workspace_access_token,"
        f" token: {{file: {token}}}}}}}]\n"
        f"copies: [{{to: 's3://{bucket}/p', endpoint: '{seaweed.endpoint}'}}]\n"
    )
    words = ["erase", "acme/website", "--document", "pull-requests/1", "--reason", "test", "--yes"]
    done = mirror(*words, "-c", str(config), env=seaweed.environment())
    assert done.returncode == 0, done.stderr
    until = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    assert done.stdout.count(f"copy s3://{bucket}/p: ") == 2
    assert done.stdout.count("Object Lock retains") == 2
    assert until in done.stdout
    words[3] = "pull-requests/2"
    done = mirror(
        *words, "-c", str(config), "--json", env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    )
    assert done.returncode == 0, done.stderr
    [text] = json.loads(done.stdout)["copies"]
    assert "is unknown" in text
