"""`mirror copy`, as people call it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mirror.cli import main
from tests.bucket.servers import ObjectServer
from tests.copy.conftest import Stores
from tests.copy.remote import PREFIX, objects_of


def test_copies_of_the_configuration_and_of_the_environment(
    stores: Stores,
    seaweed: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    shutil.copytree(stores.now, store)
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    one, two = seaweed.make_bucket(), seaweed.make_bucket()
    assert main(["copy", "--store", str(store), "--dry-run", "--to", f"s3://{one}/{PREFIX}"]) == 0
    assert "5 folders would be sent" in capsys.readouterr().out
    assert objects_of(seaweed, one) == {}
    assert main(["copy", "--store", str(store)]) == 2
    capsys.readouterr()

    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("a token of some length")
    (tmp_path / "config.yaml").write_text(
        f"store: {store}\n"
        "workspaces:\n  - workspace: acme\n"
        f"    credential: {{kind: workspace_access_token, token: {{file: {tmp_path / 'token'}}}}}\n"
        "copies:\n"
        + "".join(
            f"  - {{to: 's3://{bucket}/{PREFIX}', endpoint: '{seaweed.endpoint}'}}\n" for bucket in (one, two)
        )
    )
    assert main(["copy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["facts"]["folders"]["copied"] for run in told["copies"]] == [5, 5]
    for bucket in (one, two):
        assert "store.json" in objects_of(seaweed, bucket)
    assert main(["copy", "--to", f"s3://{two}/{PREFIX}"]) == 0
    assert "0 folders copied, 5 unchanged" in capsys.readouterr().out
    assert main(["copy", "--to", "s3://user:secret@b/p"]) == 2
    # A slip of the hand sends nothing in plain text to another place, unless that is said.
    capsys.readouterr()
    slip = ["copy", "--to", f"s3://{two}/slip"]
    assert main(slip) == 2 and "--plain" in capsys.readouterr().err
    assert objects_of(seaweed, two, "slip") == {}
    assert main([*slip, "--plain", "--dry-run"]) == 0
    assert main(["copy", "--plain"]) == 2
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong secret, of some length")
    assert main(["copy", "--to", f"s3://{two}/{PREFIX}"]) == 12
    said = capsys.readouterr()
    assert "a wrong secret" not in said.out + said.err


def test_what_a_check_misses_is_sent_again(
    stores: Stores,
    seaweed: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, bucket = tmp_path / "store", seaweed.make_bucket()
    shutil.copytree(stores.now, store)
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    words = ["copy", "--store", str(store), "--to", f"s3://{bucket}/{PREFIX}"]
    assert main(words) == 0
    gone = next(name for name in objects_of(seaweed, bucket) if name.startswith("blobs/"))
    seaweed.client().delete_object(Bucket=bucket, Key=f"{PREFIX}/{gone}")
    assert main(words) == 0  # it asks nobody about what it sent
    assert gone not in objects_of(seaweed, bucket)
    capsys.readouterr()
    status = ["status", "--store", str(store)]
    assert main(status) == 0 and "no check of it is recorded" in capsys.readouterr().out
    assert main([*words, "--check"]) == 4
    assert "gets again what is missing" in capsys.readouterr().out
    main([*status, "--json"])
    told = json.loads(capsys.readouterr().out)
    [copy] = told["copies"]
    assert copy["check"]["exit_code"] == 4 and gone in copy["check"]["problems"][0]
    assert [one["urgency"] for one in told["attention"] if gone in one["reason"]] == ["damage"]
    capsys.readouterr()
    assert main(words) == 3
    out = capsys.readouterr().out
    assert f"no longer there as it was sent: {gone}" in out and "it was sent again" in out
    assert gone in objects_of(seaweed, bucket)
    assert main(words) == 0
    main(status)
    assert "found 1 fault: " in capsys.readouterr().out, "only a check tells that it is well again"
    assert main([*words, "--check", "--read"]) == 0
    main(status)
    assert "read whole: sound" in capsys.readouterr().out
    # No copy at all is an answer; of an address to which nothing was sent it is none.
    for key in objects_of(seaweed, bucket):
        seaweed.client().delete_object(Bucket=bucket, Key=f"{PREFIX}/{key}")
    assert main([*words[:-1], f"s3://{bucket}/typo", "--check"]) == 10
    assert main([*words, "--check"]) == 10
    capsys.readouterr()
    main(status)
    out = capsys.readouterr().out
    assert "found 1 fault: there is no copy at" in out and "typo" not in out
