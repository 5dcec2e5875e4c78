"""Google Cloud Storage and Azure Blob Storage, as far as a server of ours can tell: what they are sent, and
what their refusals mean. Nothing here has seen the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from mirror.bucket.access import Access
from mirror.bucket.address import Address
from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Absent, Denied
from mirror.errors import CredentialRefused, MirrorError, NoStore, UsageError
from mirror.http.network import Network
from tests.bucket.strict import Answer, StrictStore, refusal
from tests.clock import FakeClock

_AZURE = b"""<EnumerationResults><Blobs><Blob><Name>p/runs/x</Name>
<Properties><Last-Modified>Sun, 29 Nov 2026 10:00:00 GMT</Last-Modified>
<Content-Length>1</Content-Length><Content-Type>t</Content-Type>
<Etag>e</Etag></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"""
_GOOGLE = b"""<ListBucketResult><IsTruncated>false</IsTruncated><Contents>
<Key>p/runs/x</Key><LastModified>2026-11-29T10:00:00.000Z</LastModified><ETag>"e"</ETag><Size>1</Size>
</Contents></ListBucketResult>"""


def google_key(endpoint: str) -> str:
    """The JSON key of a service account whose Google is the server of the test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: there is no key to sign with")
    words = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    made = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    names = {"client_email": "me@example.org", "private_key_id": "k", "token_uri": f"{endpoint}/token"}
    return json.dumps({"type": "service_account", "private_key": made, "gcs_base_url": endpoint, **names})


@pytest.fixture
def server() -> Iterator[StrictStore]:
    """A server that answers what the test says."""
    with StrictStore() as found:
        yield found


@pytest.fixture(params=["gs", "az"])
def bucket(request: pytest.FixtureRequest, server: StrictStore) -> Bucket:
    """A bucket of each provider there."""
    address, network = Address(request.param, "bucket", "p"), Network(pause=0.01)
    if address.scheme == "gs":
        access = Access(server.endpoint, secret=google_key(server.endpoint), network=network)
    else:
        access = Access(server.endpoint, key="account", secret="c2VjcmV0LXNlY3JldA==", network=network)
    return Bucket(address, access, clock=FakeClock())


async def test_objects_are_put_read_and_listed(bucket: Bucket, server: StrictStore) -> None:
    listed = _GOOGLE if bucket.address.scheme == "gs" else _AZURE
    server.faults = [Answer(201), Answer(body=b"data"), Answer(body=listed)]
    async with bucket:
        await bucket.put("x", b"data")
        assert await bucket.get("x", limit=4) == b"data"
        assert [(one.key, one.size) async for one in bucket.list("runs")] == [("runs/x", 1)]
    assert [one.method for one in server.asked] == ["PUT", "GET", "GET"]
    assert [one.path.replace("%2F", "/") for one in server.asked[:2]] == ["/bucket/p/x", "/bucket/p/x"]
    assert all("authorization" in one.headers for one in server.asked)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", NoStore),
        (404, "ContainerNotFound", NoStore),
        (404, "NoSuchKey", Absent),
        (404, "BlobNotFound", Absent),
        (403, "AuthenticationFailed", CredentialRefused),
        (401, "AuthenticationRequired", CredentialRefused),
        (403, "AccessDenied", Denied),
        (403, "AuthorizationPermissionMismatch", Denied),
    ],
)
async def test_refusals_are_what_they_say(
    bucket: Bucket, server: StrictStore, status: int, code: str, kind: type[MirrorError]
) -> None:
    server.faults = [refusal(status, code)] * 20
    async with bucket:
        with pytest.raises(kind) as caught:
            await bucket.get("x", limit=1)
    assert type(caught.value) is kind and "http" not in str(caught.value)


async def test_a_key_that_is_none_is_not_repeated() -> None:
    access = Access("https://storage.example.org", secret='{"private_key": "my-secret"}')
    with pytest.raises(UsageError, match="the settings of this copy are not usable") as caught:
        async with Bucket(Address("gs", "bucket", "p"), access, clock=FakeClock()):
            pass
    assert "my-secret" not in str(caught.value)
