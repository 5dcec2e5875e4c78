"""Buckets of copies, with secrets read now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from mirror.auth.secrets import SecretSource, read_secret
from mirror.bucket.access import DEFAULT_REGION, Access
from mirror.bucket.address import Address
from mirror.bucket.bucket import Bucket
from mirror.config import values
from mirror.config.copies import CopyConfig
from mirror.config.settings import Config
from mirror.connect.network import network_of
from mirror.errors import UsageError
from mirror.http.network import Network, from_environment
from mirror.logs import register_secret
from mirror.model import Clock


def copy_of(config: Config | None, address: Address, environment: Mapping[str, str]) -> CopyConfig:
    """The entry of `copies` with this address; else one made of the environment (AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL, and AWS_REGION or AWS_DEFAULT_REGION), with its usual credentials. Raises UsageError
    where the variables name no endpoint that may be used."""
    for one in config.copies if config is not None else ():
        if one.to == str(address):
            return one
    endpoint = None
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if address.scheme == "s3" else ():
        if text := environment.get(name):
            try:
                endpoint = values.url(text)
            except ValueError as error:
                raise UsageError(f"the environment variable {name} {error}") from None
            break
    return CopyConfig(to=str(address), endpoint=endpoint)


def to_read(copy: CopyConfig, environment: Mapping[str, str]) -> CopyConfig:
    """The same copy, with the keys of the usual variables where both are set: those of the configuration are
    for sending, and need not be allowed to list what was overwritten."""
    if copy.address.scheme != "s3" or _usual(environment)[0] is None:
        return copy
    return replace(copy, access_key_id=None, secret_access_key=None)


@asynccontextmanager
async def open_bucket(
    copy: CopyConfig, config: Config | None, environment: Mapping[str, str], clock: Clock
) -> AsyncIterator[Bucket]:
    """The bucket of a copy. Nothing is sent. Raises UsageError where a secret cannot be read, a network
    setting is unusable or obstore is not installed, and CredentialRefused where there are no keys."""
    if config is not None:
        network = await network_of(config, environment)
    else:
        network = from_environment(environment)
        network.check()
    access = await _access(copy, network, environment)
    async with Bucket(copy.address, access, clock=clock, bandwidth=copy.bandwidth) as bucket:
        yield bucket


async def _access(copy: CopyConfig, network: Network, environment: Mapping[str, str]) -> Access:
    region = copy.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    key = await _secret(copy.access_key_id, environment)
    secret = await _secret(copy.secret_access_key, environment, may_have_lines=copy.address.scheme == "gs")
    token, source = None, f"access_key_id from {copy.access_key_id}" if key is not None else ""
    if key is None and secret is None and copy.address.scheme == "s3":
        key, secret, token = _usual(environment)
        source = "AWS_ACCESS_KEY_ID from the environment" if key is not None else ""
    return Access(copy.endpoint, region or DEFAULT_REGION, key, secret, token, network, source=source)


async def _secret(
    source: SecretSource | None, environment: Mapping[str, str], *, may_have_lines: bool = False
) -> str | None:
    if source is None:
        return None
    return (await read_secret(source, environment=environment, may_have_lines=may_have_lines)).reveal()


def _usual(environment: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """S3's key, secret and session token in the usual variables; all None unless both keys are set."""
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None, None, None
    token = environment.get("AWS_SESSION_TOKEN") or None
    for one in (secret, token or ""):
        register_secret(one)
    return key, secret, token
