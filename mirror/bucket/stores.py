"""obstore's stores for an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mirror.bucket.access import Access
from mirror.bucket.address import Address
from mirror.bucket.failures import no_credential
from mirror.errors import UsageError, missing_extra
from mirror.logs import redact

# With Object Lock S3 demands of every upload a checksum of its bytes, and that the algorithm is named.
_CHECKSUM = "SHA256"
_NAMED = {"x-amz-sdk-checksum-algorithm": _CHECKSUM}


@dataclass(frozen=True)
class Stores:
    """Two doors to one bucket: `whole` sends objects in one request, `parts` does all else."""

    whole: Any
    parts: Any


def open_stores(address: Address, access: Access) -> Stores:
    """The stores of an address. Blocks: without keys it asks where AWS keeps some. Raises UsageError where
    obstore is not installed, or does not take the settings, and CredentialRefused where AWS has no keys."""
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        raise missing_extra("copy", "copies in object storage need obstore") from None
    try:
        if address.scheme == "s3":
            return Stores(_s3(address, access, _NAMED), _s3(address, access, {}))
        one = _google(address, access) if address.scheme == "gs" else _azure(address, access)
    except (BaseError, ValueError) as error:
        reason = type(error).__name__  # its text may have a key
        raise UsageError(
            f"{address}: the settings of this copy are not usable ({reason})",
            hint="check endpoint, region and keys; Azure needs an account: access_key_id, or"
            " AZURE_STORAGE_ACCOUNT_NAME",
        ) from None
    return Stores(one, one)


def _s3(address: Address, access: Access, headers: dict[str, str]) -> Any:
    from obstore.store import S3Store

    options = access.client_options("s3")
    if headers:
        options["default_headers"] = headers
    # The variables of the environment count unless each is named here.
    config: Any = {
        "endpoint": access.url("s3"),
        "aws_endpoint_url_s3": access.url("s3"),
        "region": access.region,
        "virtual_hosted_style_request": False,
        "checksum_algorithm": _CHECKSUM,
        "unsigned_payload": False,
        "skip_signature": False,
        "disable_bulk_delete": True,
    }
    return S3Store(
        address.bucket,
        config=config,
        client_options=options,
        retry_config=access.retry_config(),
        credential_provider=_keys(address, access),
    )


def _keys(address: Address, access: Access) -> Any:
    """The keys of S3 for obstore; without any those that boto3 finds, which knows profiles and single
    sign-on. None: obstore looks itself, for variables and roles."""
    if access.key is None or access.secret is None:
        return _found_by_boto3(address, access)
    keys = {
        "access_key_id": access.key,
        "secret_access_key": access.secret,
        "token": access.token,
        "expires_at": None,
    }
    return lambda: keys


def _found_by_boto3(address: Address, access: Access) -> Any:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider(boto3.session.Session(region_name=access.region))
    except BotoCoreError as error:
        raise UsageError(f"{address}: AWS's own configuration is not usable: {redact(str(error))}") from None
    except ValueError:
        raise no_credential(address) from None


def _google(address: Address, access: Access) -> Any:
    from obstore.store import GCSStore

    config: Any = {}
    if access.secret is not None:
        config["service_account_key"] = access.secret
    if access.endpoint is not None:
        config["base_url"] = access.endpoint
    return GCSStore(
        address.bucket,
        config=config,
        client_options=access.client_options("gs"),
        retry_config=access.retry_config(),
    )


def _azure(address: Address, access: Access) -> Any:
    from obstore.store import AzureStore

    config: Any = {}
    if access.key is not None:
        config["account_name"] = access.key
    if access.secret is not None:
        config["account_key"] = access.secret
    if access.endpoint is not None:
        config["endpoint"] = access.endpoint
    return AzureStore(
        address.bucket,
        config=config,
        client_options=access.client_options("az"),
        retry_config=access.retry_config(),
    )
