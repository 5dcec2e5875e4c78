"""Small files go up together, once; old bundles are packed anew where too much of them is dead."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.copy import bundles
from mirror.copy.bundles import Hashed
from mirror.copy.format import File, Manifest

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def hashed(data: bytes) -> Hashed:
    return Hashed(len(data), hashlib.sha256(data).hexdigest())


@dataclass
class Sender:
    """What a copy run does with the files of a folder, in memory."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    last: Manifest | None = None
    sent: int = 0

    def send(self, files: dict[str, bytes]) -> Manifest:
        now = {path: hashed(data) for path, data in files.items()}
        repack = bundles.to_repack(bundles.reusable(now, self.last), self.last)
        kept = bundles.reusable({path: one for path, one in now.items() if path not in repack}, self.last)
        where = dict(kept)
        groups, alone = bundles.grouped({path: one for path, one in now.items() if path not in kept})
        for paths in groups:
            name = self.put(bundle(paths, files))
            where.update({path: File(name, *now[path], is_bundled=True) for path in paths})
        where.update({path: File(self.put(files[path]), *now[path]) for path in alone})
        sizes = {one.blob: len(self.blobs[one.blob]) for one in where.values()}
        self.last = Manifest("f", 1, None, NOW, "test", where, sizes)
        return self.last

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.sent += len(data)
        self.blobs[name] = data
        return name


def bundle(paths: list[str], files: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        whole = bundles.write_bundle(target, paths, files.__getitem__)
        data = target.read_bytes()
    assert hashed(data) == whole
    return data


FILES = st.dictionaries(
    st.sampled_from([f"code.git/objects/{n}" for n in range(12)] + ["refs/" + "x" * 250]),
    st.one_of(st.binary(max_size=40), st.integers(0, 3).map(lambda n: b"%d" % n * (bundles.SMALL - 1 + n))),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(FILES, min_size=1, max_size=20))
def test_every_file_is_where_the_manifest_says(states: list[dict[str, bytes]]) -> None:
    sender = Sender()
    for files in states:
        manifest = sender.send(files)
        assert manifest.files.keys() == files.keys()
        Manifest.from_bytes(manifest.to_bytes())
        for path, file in manifest.files.items():
            data = sender.blobs[file.blob]
            if file.is_bundled:
                with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                    member = archive.extractfile(path)
                    assert member is not None
                    data = member.read()
            assert data == files[path]
        before = sender.sent
        sender.send(files)
        assert sender.sent == before, "nothing changed"


def test_many_changes_leave_few_bundles_and_send_little() -> None:
    sender = Sender()
    files = {f"files/{n:02x}/{n}": b"%d" % n * 2000 for n in range(200)}
    sender.send(files)
    whole = sender.sent
    for change in range(300):
        files[f"objects/{change}"] = b"%d" % change * 100
        files["snapshots.json"] = b"%d" % change * 1000
        files.pop(f"objects/{change - 100}", None)
        manifest = sender.send(files)
        bundled = {one.blob for one in manifest.files.values() if one.is_bundled}
        assert len(bundled) <= bundles.LIGHT_MAX + 1
        live = sum(one.size for one in manifest.files.values())
        stored = sum(manifest.blobs.values())
        assert stored <= 2 * live + 2048 * len(files) + 20480 * len(bundled)
    # Each change sends what is new, and a sixteenth of everything small.
    assert sender.sent <= whole + 300 * (whole / bundles.LIGHT_MAX + 30_000)


def test_what_a_plain_tar_cannot_name_goes_alone() -> None:
    long = "/".join(["x" * 90] * 4)
    groups, alone = bundles.grouped({long: hashed(b"1"), "a": hashed(b"2")})
    assert (groups, alone) == ([["a"]], [long])
