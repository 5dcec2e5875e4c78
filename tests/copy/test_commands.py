"""`--store s3://…`: commands that read say of a copy what they say of the store that it is of."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mirror.git.mirrors.fetch import read_refs
from tests.bucket.servers import NOBODY, UPLOADER, ObjectServer
from tests.copy.test_reading import VERSIONS, Age, unpack
from tests.copy.written import WrittenCopy, places_of
from tests.e2e.helpers import mirror
from tests.ports import unused_port


class Sent:
    """A store, a copy of it, and how commands reach both."""

    def __init__(self, server: ObjectServer, folder: Path) -> None:
        self.store = unpack(VERSIONS[-1], folder)
        self.bucket = server.make_bucket()
        self.written = WrittenCopy(server, self.bucket).write(self.store)
        self.address = f"s3://{self.bucket}/p"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.environment = {**server.environment(), "TMPDIR": str(self.temporary)}

    def here(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on the store."""
        return mirror(*words, "--store", str(self.store))

    def there(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same command on the copy; nothing of it may stay."""
        done = mirror(*words, "--store", self.address, env={**self.environment, **environment})
        assert list(self.temporary.iterdir()) == []
        return done


@pytest.fixture
def sent(seaweed: ObjectServer, tmp_path: Path) -> Sent:
    return Sent(seaweed, tmp_path)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_only_reads_says_the_same_of_both(sent: Sent) -> None:
    for words in (
        ["snapshots"],
        ["show", "acme/website", "pull-requests/1"],
        ["show", "acme/website", "main:index.html"],
        ["diff", "acme/website", "20261123T020000Z", "latest"],
    ):
        assert told(sent.there(*words, "--json")) == told(sent.here(*words, "--json")), words
    here, there = told(sent.here("status", "--json")), told(sent.there("status", "--json"))
    assert here.pop("store") == str(sent.store)
    assert there.pop("store") == sent.address
    for one in (here, there):
        for repository in one["repositories"]:
            del repository["bytes"]  # caches are not copied
            del repository["written"]  # files that came are as old as their manifest
    assert there == here


def test_a_restore_from_the_copy_is_that_from_the_store(sent: Sent, tmp_path: Path) -> None:
    for name, run in (("here", sent.here), ("there", sent.there)):
        done = run("restore", "acme/website", "--to", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    here, there = (read_refs(tmp_path / one / "code.git").refs for one in ("here", "there"))
    assert here == there
    assert here
    files = {
        one: {
            path.relative_to(tmp_path / one): path.read_bytes()
            for path in (tmp_path / one / "metadata").rglob("*")
            if path.is_file()
        }
        for one in ("here", "there")
    }
    assert files["here"] == files["there"]


def test_verify_and_drill_work_straight_from_the_copy(sent: Sent) -> None:
    for level in ("objects", "refs"):
        there, here = (
            told(run("verify", "--json", "--level", level))["facts"] for run in (sent.there, sent.here)
        )
        for one in (there, here) if level == "refs" else ():
            del one["checked"]["run_records"], one["checked"]["small_files"]  # the store has one more now
        assert there == here
    done = sent.there("drill", "acme/website", "--json")
    assert told(done)["recorded"] is False


def test_verify_finds_what_is_damaged_in_the_copy(sent: Sent) -> None:
    place = places_of(sent.store)[-1]
    name = next(one.blob for one in sent.written.manifests[place].files.values() if not one.is_bundled)
    key = f"blobs/{name[:2]}/{name}"
    sent.written.overwrite(key, os.urandom(len(sent.written.read(key))))
    done = sent.there("verify", "--json")
    assert done.returncode == 4
    found = json.loads(done.stdout)["facts"]["findings"]
    assert {one["file"] for one in found if one["severity"] == "damage"} == {place}
    assert key in found[0]["problem"]


def test_what_is_lost_makes_a_command_fail_that_needs_it(sent: Sent, tmp_path: Path) -> None:
    place = next(one for one in places_of(sent.store) if "website" in one)
    name = next(one.blob for one in sent.written.manifests[place].files.values() if not one.is_bundled)
    sent.written.overwrite(f"blobs/{name[:2]}/{name}", b"")
    assert sent.there("restore", "acme/website", "--to", str(tmp_path / "one")).returncode == 4
    done = sent.there("restore", "acme", "--to", str(tmp_path / "all"))
    assert done.returncode == 4
    assert place in done.stderr
    assert sent.there("restore", "acme/api", "--to", str(tmp_path / "api")).returncode == 0


def test_what_is_wrong_has_its_exit_code(sent: Sent, seaweed: ObjectServer, tmp_path: Path) -> None:
    assert sent.there("show", "acme/websight", "/").returncode == 2
    for words in (["backup"], ["accept-loss", "acme"]):
        done = sent.there(*words)
        assert done.returncode == 2
        assert "mirror copy --from s3://" in done.stderr
    assert sent.there("verify", "--share", "1/2").returncode == 2
    assert mirror("status", "--store", "s3://a b/p", env=sent.environment).returncode == 2
    assert mirror("status", "--store", f"{sent.address}/none", env=sent.environment).returncode == 10
    uploader = {**sent.environment, **seaweed.environment(UPLOADER)}
    assert mirror("status", "--store", "s3://no-such-bucket/p", env=uploader).returncode == 10
    assert sent.there("status", **seaweed.environment(NOBODY)).returncode == 12
    dead = f"http://127.0.0.1:{unused_port()}"
    assert sent.there("status", AWS_ENDPOINT_URL_S3=dead).returncode == 75


def test_identities_open_an_encrypted_copy(seaweed: ObjectServer, tmp_path: Path) -> None:
    sent, age, other = Sent(seaweed, tmp_path), Age(), Age()
    sent.bucket = seaweed.make_bucket()
    WrittenCopy(seaweed, sent.bucket, age.coding).write(sent.store)
    sent.address = f"s3://{sent.bucket}/p"
    files = []
    for number, one in enumerate((age, other)):
        files.append(tmp_path / f"key-{number}")
        files[-1].touch(mode=0o600)
        files[-1].write_text(f"# created today\n{one.identity}\n")
    done = sent.there("snapshots")
    assert done.returncode == 2
    assert "--identity" in done.stderr
    assert sent.there("snapshots", "--identity", str(files[1])).returncode == 12
    words = ["snapshots", "--json"]
    assert told(sent.there(*words, "--identity", str(files[0]))) == told(sent.here(*words))
