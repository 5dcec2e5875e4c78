"""Which bucket a copy means, and with which keys it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.bucket.address import Address
from mirror.config import load_text
from mirror.config.copies import CopyConfig
from mirror.connect.copies import copy_of, open_bucket, to_read
from mirror.errors import CredentialRefused, UsageError
from mirror.logs import redact
from tests.bucket.servers import ADMIN, NOBODY, ObjectServer
from tests.clock import FakeClock

HEAD = "store: s\ncredential: {kind: workspace_access_token, token: {file: t}}\n"


def test_the_entry_of_an_address_else_the_environment(tmp_path: Path) -> None:
    config = load_text(HEAD + "copies: [{to: s3://b1/x, region: eu-7}]\n", "c.yaml", folder=tmp_path)
    here = Address("s3", "b1", "x")
    assert copy_of(config, here, {}).region == "eu-7"
    assert copy_of(config, Address("s3", "b1", "y"), {}) == CopyConfig(to="s3://b1/y")
    both = {"AWS_ENDPOINT_URL": "https://one.example.org", "AWS_ENDPOINT_URL_S3": "https://two.example.org"}
    assert copy_of(None, here, both).endpoint == "https://two.example.org"
    assert copy_of(None, Address("gs", "b1", "x"), both).endpoint is None
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL should begin with https://"):
        copy_of(None, here, {"AWS_ENDPOINT_URL": "http://one.example.org"})


async def test_a_bucket_is_opened_with_the_keys_of_its_entry(seaweed: ObjectServer, tmp_path: Path) -> None:
    for name, text in (("key", ADMIN.key), ("secret", ADMIN.secret)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    address = f"s3://{seaweed.make_bucket()}/x"
    text = f"copies: [{{to: {address}, endpoint: {seaweed.endpoint}, access_key_id: {{file: key}},"
    config = load_text(HEAD + text + " secret_access_key: {file: secret}}]\n", "c.yaml", folder=tmp_path)
    # Keys of the environment belong to something else.
    async with open_bucket(config.copies[0], config, NOBODY.environment, FakeClock()) as bucket:
        await bucket.put("x", b"1")
    copy = copy_of(None, Address.parse(address), seaweed.environment())
    async with open_bucket(copy, None, seaweed.environment(), FakeClock()) as bucket:
        assert await bucket.get("x", limit=1) == b"1"
    assert ADMIN.secret not in redact(f"secret {ADMIN.secret}")
    async with open_bucket(copy, None, NOBODY.environment, FakeClock()) as bucket:
        with pytest.raises(CredentialRefused) as caught:
            await bucket.get("x", limit=1)
    assert caught.value.hint is not None and "AWS_ACCESS_KEY_ID from the environment" in caught.value.hint


async def test_who_reads_uses_the_keys_of_the_environment(seaweed: ObjectServer, tmp_path: Path) -> None:
    """On the machine that backs up, too, where the configuration has the key that sends."""
    for name, text in (("key", NOBODY.key), ("secret", NOBODY.secret)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    address = f"s3://{seaweed.make_bucket()}/x"
    text = f"copies: [{{to: {address}, endpoint: {seaweed.endpoint}, access_key_id: {{file: key}},"
    config = load_text(HEAD + text + " secret_access_key: {file: secret}}]\n", "c.yaml", folder=tmp_path)
    [copy] = config.copies
    reading = to_read(copy, ADMIN.environment)
    async with open_bucket(reading, config, ADMIN.environment, FakeClock()) as bucket:
        assert [one async for one in bucket.versions()] == []
    half = {"AWS_ACCESS_KEY_ID": ADMIN.key}
    assert to_read(copy, half) == to_read(copy, {}) == copy
    async with open_bucket(copy, config, half, FakeClock()) as bucket:
        with pytest.raises(CredentialRefused) as caught:
            await bucket.get("x", limit=1)
    assert (
        caught.value.hint is not None and f"access_key_id from file {tmp_path / 'key'}" in caught.value.hint
    )
    elsewhere = CopyConfig(to="gs://b1/x", secret_access_key=copy.secret_access_key)
    assert to_read(elsewhere, ADMIN.environment) == elsewhere


async def test_a_secret_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = "copies: [{to: s3://b1/x, access_key_id: {env: K}, secret_access_key: {file: gone}}]\n"
    config = load_text(HEAD + text, "c.yaml", folder=tmp_path)
    with pytest.raises(UsageError, match="gone cannot be read"):
        async with open_bucket(config.copies[0], config, {"K": "key"}, FakeClock()):
            pass
