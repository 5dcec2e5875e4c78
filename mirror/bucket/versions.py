"""What obstore cannot do and boto3 can: versions of objects, and Object Lock."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from mirror.bucket.access import RETRIES, Access, authorities_of, proxy_url
from mirror.bucket.address import SCHEMES, Address
from mirror.bucket.failures import Denied, failure, no_credential, unreachable
from mirror.bucket.stored import Stored
from mirror.errors import MirrorError, TryLater, UsageError, missing_extra

Mode = Literal["compliance", "governance"]
_MODES: dict[str, Mode] = {"COMPLIANCE": "compliance", "GOVERNANCE": "governance"}
# Versions come in pages of so many.
PAGE = 1000
_DAYS_OF_A_YEAR = 365
# What servers answer where nothing is set; and those that know nothing of versions or locks.
_NOT_SET = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}
_NOT_MADE = {"NotImplemented", "MethodNotAllowed", "XNotImplemented", "UnsupportedOperation"}


@dataclass(frozen=True)
class LockState:
    """What a bucket does by itself against whoever deletes or overwrites.

    `versioning`: whether what is overwritten or deleted stays as a version. `has_default`: whether new
    objects are retained by themselves, for `days` days, and by `mode` (governance: some may shorten it;
    compliance: nobody). None: unknown, and `unknown` says why, in a text for each.
    """

    versioning: bool | None
    has_default: bool | None
    mode: Mode | None = None
    days: int | None = None
    unknown: tuple[str, ...] = ()


class Versions:
    """boto3's view of an address of S3. Every method blocks; `made` hears of each request."""

    def __init__(self, address: Address, access: Access, made: Callable[[], None]) -> None:
        """Raises UsageError where boto3 is not installed, or the address is not of S3."""
        if address.scheme != "s3":
            raise UsageError(
                f"{address}: versions and locks of {SCHEMES[address.scheme]} are not read or changed",
                hint="use its own tools for that; an S3-compatible endpoint has them here",
            )
        self._address = address
        self._made = made
        self._authorities: Any = None
        self._access = access
        self._client = self._open(access)
        self._mode: str | None = None

    def close(self) -> None:
        """Close connections, and remove temporary files."""
        self._client.close()
        if self._authorities is not None:
            self._authorities.close()

    def _open(self, access: Access) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise missing_extra("lock", "versions and Object Lock need boto3") from None
        proxy = access.proxy("s3")
        through = proxy_url(proxy) if proxy is not None else ""
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": RETRIES + 1},
            connect_timeout=access.network.connect_timeout,
            read_timeout=access.silence,
            user_agent=access.network.api_agent,
            # An empty mapping, not None, which means the environment's.
            proxies={"http": through, "https": through} if through else {},
        )
        try:
            session = boto3.session.Session(access.key, access.secret, access.token)
            return session.client(
                "s3",
                region_name=access.region,
                endpoint_url=access.url("s3"),
                verify=self._trusted(access),
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            reason = type(error).__name__  # its text may have a key
            raise UsageError(f"{self._address}: boto3 does not take these settings ({reason})") from None

    def _trusted(self, access: Access) -> str | None:
        """The file of trusted certificates; None for those that boto3 brings."""
        if authorities := authorities_of(access.network):
            self._authorities = tempfile.NamedTemporaryFile(prefix="mirror-ca-")  # noqa: SIM115
            self._authorities.write(authorities)
            self._authorities.flush()
            return str(self._authorities.name)
        system = Path(ssl.get_default_verify_paths().openssl_cafile)
        return str(system) if system.is_file() else None

    def pages(self, prefix: str) -> Iterator[list[Stored]]:
        """Every version and delete marker of the keys that begin with `prefix`, by key, newest first."""
        place: dict[str, str] = {}
        while True:
            page = self._ask(
                f"listing versions of {prefix}", "list_object_versions", Prefix=prefix, MaxKeys=PAGE, **place
            )
            found = [_version(one) for one in page.get("Versions", [])]
            found += [replace(_version(one), is_deleted=True) for one in page.get("DeleteMarkers", [])]
            yield sorted(found, key=lambda one: (one.key, not one.is_latest, -one.modified.timestamp()))
            if not page.get("IsTruncated"):
                return
            place = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                place["VersionIdMarker"] = page["NextVersionIdMarker"]

    def objects(self, prefix: str, after: str) -> Iterator[list[Stored]]:
        """The objects whose keys begin with `prefix`, from the one after `after` on."""
        place = {"StartAfter": after} if after else {}
        while True:
            page = self._ask(f"listing {prefix}", "list_objects_v2", Prefix=prefix, MaxKeys=PAGE, **place)
            yield [
                Stored(one["Key"], one["Size"], _utc(one["LastModified"])) for one in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                return
            place = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str, version: str) -> None:
        """Delete a version for good. Raises Denied where a lock or the policy forbids it."""
        self._ask(f"deleting a version of {key}", "delete_object", key=key, VersionId=version)

    def try_put(self, key: str) -> None:
        """Begin an upload and abort it: nothing of it stands there, not even for a moment. Raises Denied
        where this key may not put; where it may not abort, the upload stays unfinished."""
        begun = self._ask(
            "beginning an upload", "create_multipart_upload", key=key, ChecksumAlgorithm="SHA256"
        )
        self._ask("aborting an upload", "abort_multipart_upload", key=key, UploadId=begun["UploadId"])

    def lock_state(self) -> LockState:
        """What the bucket does against deletion."""
        unknown: list[str] = []
        versions = self._setting("get_bucket_versioning", "whether versions are kept", unknown)
        lock = self._setting("get_object_lock_configuration", "whether objects are retained", unknown)
        versioning = None if versions is None else versions.get("Status") == "Enabled"
        if lock is None:
            return LockState(versioning, None, unknown=tuple(unknown))
        rule = lock.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
        days = (rule.get("Days") or 0) + _DAYS_OF_A_YEAR * (rule.get("Years") or 0)
        if not days:
            return LockState(versioning, False, unknown=tuple(unknown))
        return LockState(versioning, True, _MODES.get(str(rule.get("Mode"))), days, tuple(unknown))

    def _setting(self, method: str, what: str, unknown: list[str]) -> dict[str, Any] | None:
        """A setting of the bucket: empty where it is not set; None, and why in `unknown`, where this
        credential may not read it, or the server has nothing of the kind."""
        from botocore.exceptions import ClientError

        try:
            found: dict[str, Any] = self._call(f"reading {what}", method)
        except ClientError as error:
            code = _code(error)
            if code in _NOT_SET:
                return {}
            meaning = self._meaning(f"reading {what}", error)
            if not isinstance(meaning, Denied) and code not in _NOT_MADE:
                raise meaning from None
            why = (
                "this credential may not read it" if isinstance(meaning, Denied) else "the server has no such"
            )
            unknown.append(f"{what}: {why} ({code})")
            return None
        return found

    def extend(self, key: str, version: str | None, until: datetime) -> None:
        """See that nobody can delete this version (None: the newest) before `until`; a later date stays."""
        which = {"VersionId": version} if version is not None else {}
        if self._mode is None:
            state = self.lock_state()
            self._mode = (state.mode or "compliance").upper()
        retention = {"Mode": self._mode, "RetainUntilDate": until}
        doing = f"protecting {key}"
        try:
            self._ask(doing, "put_object_retention", key=key, Retention=retention, **which)
        except Denied as denied:
            if not self._is_retained(key, which, until):
                raise denied from None

    def _is_retained(self, key: str, which: dict[str, str], until: datetime) -> bool:
        """Whether it is retained so long already; what may not be read is not."""
        try:
            found = self._ask(f"reading the lock of {key}", "get_object_retention", key=key, **which)
        except MirrorError:
            return False
        date = found.get("Retention", {}).get("RetainUntilDate")
        # Servers keep whole seconds.
        return date is not None and _utc(date) >= until - timedelta(seconds=1)

    def _ask(self, doing: str, method: str, *, key: str = "", **parameters: Any) -> Any:
        """What the server answers. Raises the errors of `Bucket`."""
        from botocore.exceptions import ClientError

        if key:
            parameters["Key"] = self._full(key)
        try:
            return self._call(doing, method, **parameters)
        except ClientError as error:
            raise self._meaning(doing, error, key) from None

    def _call(self, doing: str, method: str, **parameters: Any) -> Any:
        """What the server answers. Raises ClientError where it refuses, and the errors of `Bucket`."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        self._made()
        try:
            return getattr(self._client, method)(Bucket=self._address.bucket, **parameters)
        except ClientError:
            raise
        except NoCredentialsError:
            raise no_credential(self._address) from None
        except BotoCoreError as error:
            hint = unreachable(self._access, "s3")
            raise TryLater(f"{self._address}: {doing} failed: {type(error).__name__}", hint=hint) from None

    def _meaning(self, doing: str, error: Any, key: str = "") -> MirrorError:
        """The error of ours for a refusal."""
        told = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return failure(
            self._address, self._access, doing, _code(error), status, str(told.get("Message", "")), key=key
        )

    def _full(self, key: str) -> str:
        return f"{self._address.prefix}/{key}" if self._address.prefix else key


def _code(error: Any) -> str:
    """The code in a ClientError. Answers without a body have their status there."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def _version(one: dict[str, Any]) -> Stored:
    version = one.get("VersionId")
    return Stored(
        one["Key"],
        int(one.get("Size", 0)),
        _utc(one["LastModified"]),
        None if version in (None, "null") else str(version),
        bool(one.get("IsLatest")),
    )


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
