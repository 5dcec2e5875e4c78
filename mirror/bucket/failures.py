"""What went wrong in object storage, as errors of ours. No message has a secret, or a URL with a query."""

from __future__ import annotations

import re

from mirror.bucket.access import Access
from mirror.bucket.address import Address
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater, UsageError
from mirror.logs import redact

# Codes of S3, Google and Azure, by what they mean.
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerBeingDeleted"}
_NO_OBJECT = {"NoSuchKey", "NoSuchVersion", "BlobNotFound", "NotFound"}
_WRONG_KEY = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired",
    "InvalidSecurity", "NotSignedUp", "AuthenticationFailed", "AuthenticationRequired", "Unauthorized",
    "InvalidAuthenticationInfo", "AccountIsDisabled", "UnrecognizedClientException", "InvalidClientTokenId",
}  # fmt: skip
_WRONG_REGION = {
    "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}  # fmt: skip
_LATER = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException",
    "TooManyRequests", "ServerBusy", "OperationAborted", "BandwidthLimitExceeded",
}  # fmt: skip
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>|\(code: (\w+)\)")
_MESSAGE = re.compile(r"<Message>\s*([^<]{1,300}?)\s*</Message>")
_STATUS = re.compile(r"status code: (\d{3})")
# Where clouds give their machines credentials: nobody is there elsewhere.
_METADATA = re.compile(r"https?://(169\.254\.|metadata\.google\.internal)")
_DENIED_HINT = (
    "check the name of the bucket, and that this key may do it: {key}; docs/offsite.md has the policies"
)
_REFUSED_HINT = "check the key, its secret, and that it is active: {key}"
_OWN_KEY = "access_key_id, or AWS_ACCESS_KEY_ID"


class Absent(MirrorError):
    """There is no such object, or no such version of it."""


class Denied(MirrorError):
    """The credential is good, and may not do this."""


def no_credential(address: Address) -> CredentialRefused:
    """The error for a provider's chain that ends without any credential."""
    hint = "set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return CredentialRefused(f"{address}: there is no credential", hint=hint)


def unreachable(access: Access, scheme: str) -> str:
    """What to do where a server does not answer."""
    return f"check the network and that {access.url(scheme)} answers (`endpoint`), or try again later"


def error_of(address: Address, access: Access, doing: str, error: Exception, *, key: str = "") -> MirrorError:
    """The error that an exception of obstore means. `doing` says what was tried: "listing", "reading …"."""
    text = str(error).partition("\n\nDebug source:")[0]
    found = _CODE.search(text)
    status = _STATUS.search(text)
    message = _MESSAGE.search(text)
    code = next((one for one in found.groups() if one), "") if found else ""
    number = int(status[1]) if status else 0
    if _METADATA.search(text) and (status is None or status[1] < "5"):
        return no_credential(address)
    if "redirect without LOCATION" in text:  # as S3 answers where the bucket is in another region
        number = 301
    kind = type(error).__name__
    if not code and isinstance(error, FileNotFoundError):
        code = "NoSuchKey"
    if not code and not number and kind == "PermissionDeniedError":
        number = 403
    if not code and not number and kind == "UnauthenticatedError":
        number = 401
    said = message[1] if message else ""
    return failure(
        address, access, doing, code, number, said or ("" if code or number else _short(text)), key=key
    )


def failure(
    address: Address, access: Access, doing: str, code: str, status: int, said: str, *, key: str = ""
) -> MirrorError:
    """The error for a code and status of the provider, and what it said."""
    used = access.source or _OWN_KEY
    where = f"{address}: {doing}"
    told = ": ".join(redact(one) for one in (code or (f"status {status}" if status else ""), said) if one)
    if code in _NO_BUCKET:
        return NoStore(f"{address}: there is no such bucket", hint="check `to` and `endpoint`, or make it")
    if key and (code in _NO_OBJECT or status == 404):
        return Absent(f"{address}: there is no {key}")
    if code in _WRONG_KEY or (status == 401 and code != "AccessDenied"):
        hint = _REFUSED_HINT.format(key=used)
        return CredentialRefused(f"{address}: the credential is refused: {told}", hint=hint)
    if code == "RequestTimeTooSkewed":
        return TryLater(f"{where} failed: {told}", hint="set the clock of this machine")
    if code in _WRONG_REGION or status in (301, 307, 308):
        hint = "set `region` (and `endpoint`) to where the bucket is"
        return UsageError(f"{where} failed: the bucket is in another region: {told}", hint=hint)
    if code in _LATER or status in (408, 429) or status >= 500:
        return TryLater(f"{where} failed: {told}", hint="try again later")
    if status == 403 or code in ("AccessDenied", "AuthorizationFailure", "AuthorizationPermissionMismatch"):
        return Denied(f"{where} is denied: {told}", hint=_DENIED_HINT.format(key=used))
    if status == 404 or code in _NO_OBJECT:  # nothing was asked for that could be absent
        return NoStore(f"{address}: there is no such bucket", hint="check `to` and `endpoint`, or make it")
    if not code and not status:
        return TryLater(f"{where} failed: {told}", hint=unreachable(access, address.scheme))
    return MirrorError(f"{where} failed: {told}")


def _short(text: str) -> str:
    """The end of obstore's message: what failed, without the URL, which may be signed."""
    text = re.sub(r"https?://\S+", "…", text)
    return redact(text.rpartition(" - ")[2].strip()[:200])
