"""LFS objects: the server fails in every way, the objects end where git-lfs looks for them, and the result
reports missing ones."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from mirror.git.lfs.batch_api import BATCH_MAX
from mirror.git.lfs.session import Session, action_headers
from mirror.git.lfs.sync import LfsJob, LfsPushJob, LfsResult, batches, download_missing, upload_missing
from mirror.git.lfs.transfer import object_path, part_path
from mirror.git.mirrors.fetch import FetchJob, GitLogin, fetch
from mirror.git.workers.clock import Watch
from mirror.http.retries import TRIES_MAX
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.git.lfs import add_object, object_file, pointer
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from tests.git.backend import git, need_git

MEDIA = "GET /storage/lfs/*"
BATCH = "POST */info/lfs/objects/batch"


def content(number: int, size: int = 5000) -> bytes:
    """The bytes of an object."""
    return random.Random(number).randbytes(size)


def oid_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Patience(Watch):
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return 1000.0 + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Scene:
    """A repository with LFS objects upstream, and its mirror."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.simulator = simulator
        self.world = simulator.world
        self.repository: SimRepository = self.world.workspaces["acme"].add_repository("game")
        self.mirror = folder / "game.git"
        self.lfs = self.mirror / "lfs"
        self.watch = Patience()
        self.scopes = SCOPES | {"repository:write"}
        self.login = GitLogin("x-token-auth", self.world.add_workspace_access_token("acme", self.scopes))

    @property
    def url(self) -> str:
        return f"{self.simulator.git_url}/acme/game.git"

    def commit(self, *contents: bytes, keep: bool = True) -> list[str]:
        """Commit pointers to these contents on main, and add the contents to the LFS server."""
        files = {}
        for data in contents:
            made = add_object(self.repository, data)
            files[f"{oid_of(data)[:8]}.bin"] = made
            if not keep:
                object_file(self.repository, oid_of(data)).unlink()
        self.repository.commit("main", files, "More\n")
        return [oid_of(data) for data in contents]

    def fetch(self) -> None:
        fetch(FetchJob(str(self.mirror), self.url, self.login))

    def download_missing(self, **other: Any) -> LfsResult:
        job = LfsJob(str(self.mirror), self.url, self.login, silence_timeout=30.0, pause=0.5)
        return download_missing(replace(job, **other), watch=self.watch)

    def held(self) -> set[str]:
        """The complete objects at the place where git-lfs looks for them."""
        found = {path.name for path in (self.lfs / "objects").glob("*/*/*")}
        for oid in found:
            assert oid_of(object_path(self.lfs, oid).read_bytes()) == oid
        return found

    def asked(self, kind: str = "storage") -> list[Any]:
        return [one for one in self.simulator.requests if one.kind == kind]


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    world = World(tmp_path / "world")
    world.add_workspace("acme")
    switches = getattr(request, "param", Switches.default())
    with Simulator(world, switches=switches) as simulator:
        yield Scene(tmp_path, simulator)


def test_every_object_comes_once_and_nothing_more(scene: Scene) -> None:
    oids = scene.commit(*(content(number) for number in range(12)))
    scene.fetch()
    result = scene.download_missing()
    assert result.objects == dict.fromkeys(sorted(oids), (5000, True))
    assert (result.missing, result.received, result.received_bytes) == ({}, 12, 60000)
    assert scene.held() == set(oids)
    assert not list((scene.lfs / "incomplete").iterdir())
    scene.simulator.requests.clear()
    again = scene.download_missing()
    assert (again.objects, again.received) == (result.objects, 0)
    assert scene.simulator.requests == []
    new = scene.commit(content(100))
    scene.fetch()
    assert scene.download_missing().received == 1
    assert scene.held() == {*oids, *new}


def test_where_nothing_points_to_an_object_nobody_is_asked(scene: Scene) -> None:
    scene.repository.commit("main", {"readme": b"version 1 is out\n" * 20}, "First\n")
    scene.fetch()
    scene.simulator.requests.clear()
    assert scene.download_missing() == LfsResult()
    assert scene.simulator.requests == []


def test_more_objects_than_a_server_takes_at_a_time(scene: Scene) -> None:
    oids = scene.commit(*(content(number, 20) for number in range(2 * BATCH_MAX + 30)))
    scene.fetch()
    assert scene.download_missing(width=8).received == len(oids)
    assert len([one for one in scene.simulator.requests if one.path.endswith("/batch")]) == 3


def test_the_credential_is_sent_at_once_and_to_its_own_origin_alone(scene: Scene) -> None:
    scene.commit(content(1))
    scene.fetch()
    scene.simulator.requests.clear()
    assert scene.download_missing().missing == {}
    [batch, media] = scene.simulator.requests
    assert batch.headers["authorization"].startswith("Basic ")
    assert media.headers["authorization"].startswith("Bearer ")
    assert scene.login.password not in json.dumps(media.headers) + repr(LfsJob("m", scene.url, scene.login))


def test_what_was_rewritten_is_held_too(scene: Scene) -> None:
    [old] = scene.commit(content(1))
    scene.fetch()
    first = scene.repository.commit("other", {"x": b"x"}, "Other\n", parents=())
    [_] = scene.commit(content(2))
    scene.repository.force("main", first)
    scene.fetch()
    assert set(scene.download_missing().objects) == {old}  # no fetch ever saw the second one
    assert scene.held() == {old}


# -- faults


@pytest.mark.parametrize("scene", [Switches.default(), replace(Switches(), lfs_ranges=False)], indirect=True)
@pytest.mark.parametrize("kind", ["cut_pack", "reset", "stall"])
def test_a_download_that_breaks_off_is_resumed(scene: Scene, kind: Any) -> None:
    [oid] = scene.commit(content(1, 900_000))
    scene.fetch()
    scene.simulator.order(Fault(MEDIA, kind, times=3, after=200_000, seconds=20.0))
    result = scene.download_missing(silence_timeout=1.0 if kind == "stall" else 30.0)
    assert result.missing == {}
    assert scene.held() == {oid}
    if kind == "cut_pack" and scene.simulator.switches.lfs_ranges:
        ranges = [one.headers.get("range") for one in scene.asked()]
        assert ranges == [None, "bytes=200000-", "bytes=400000-", "bytes=600000-"]
        assert result.received_bytes == 900_000


def test_what_an_earlier_run_left_is_not_asked_for_again(scene: Scene) -> None:
    data = content(1, 50_000)
    [oid] = scene.commit(data)
    scene.fetch()
    part = part_path(scene.lfs, oid)
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:30_000])
    stale = part_path(scene.lfs, "ab" * 32)
    stale.write_bytes(b"of an object that nobody wants any more")
    assert scene.download_missing().received_bytes == 20_000
    assert [one.headers["range"] for one in scene.asked()] == ["bytes=30000-"]
    assert not part.exists() and not stale.exists()


@pytest.mark.parametrize("left", [b"other bytes" * 100, b"x" * 5000, b"x" * 6000, content(1)])
def test_what_an_earlier_run_left_is_not_trusted(scene: Scene, left: bytes) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    part = part_path(scene.lfs, oid)
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert scene.download_missing().missing == {}
    assert scene.held() == {oid}


def test_wrong_bytes_never_get_a_name(scene: Scene) -> None:
    good, bad = scene.commit(content(1), content(2))
    file = object_file(scene.repository, bad)
    file.write_bytes(content(3))
    scene.fetch()
    result = scene.download_missing()
    assert result.objects == {good: (5000, True), bad: (5000, False)}
    assert "different content" in result.missing[bad]
    assert not result.retryable
    assert scene.held() == {good}
    # Damaged once in transfer, it arrives with the second try.
    file.write_bytes(content(2))
    scene.simulator.order(Fault(MEDIA, "corrupt_pack", after=77))
    assert scene.download_missing().missing == {}
    assert scene.held() == {good, bad}


def test_more_or_fewer_bytes_than_the_pointer_says(scene: Scene) -> None:
    data = content(1)
    scene.repository.commit(
        "main", {"a": pointer(oid_of(data), 4999), "b": pointer(oid_of(data), 5001)}, "x\n"
    )
    add_object(scene.repository, data)
    scene.fetch()
    result = scene.download_missing()
    assert result.objects == {oid_of(data): (5001, False)}
    # If one of the pointers is correct, that one counts.
    scene.repository.commit("main", {"c": pointer(oid_of(data), 5000)}, "y\n")
    scene.fetch()
    assert scene.download_missing().objects == {oid_of(data): (5000, True)}


@pytest.mark.parametrize("scene", [Switches(), Switches(lfs_checks_sizes=False)], indirect=True)
@pytest.mark.parametrize("size", [4999, 5001])
@pytest.mark.parametrize("is_other", [False, True], ids=["the object", "other bytes"])
def test_a_pointer_with_the_wrong_size_is_no_matter_of_time(scene: Scene, size: int, is_other: bool) -> None:
    oid = oid_of(content(1))
    scene.repository.commit("main", {"a": pointer(oid, size)}, "x\n")
    add_object(scene.repository, content(1))
    if is_other:
        object_file(scene.repository, oid).write_bytes(content(2))
    scene.fetch()
    result = scene.download_missing()
    assert result.objects == {oid: (size, False)} and not result.retryable
    assert "pointer" in result.missing[oid]
    assert len(scene.asked()) <= 1, "it is not asked for again and again"


def test_what_the_server_has_not_is_told_and_the_rest_comes(scene: Scene) -> None:
    [gone] = scene.commit(content(1), keep=False)
    [good] = scene.commit(content(2))
    scene.fetch()
    result = scene.download_missing()
    assert result.missing == {gone: "the server does not have it (404): Object does not exist"}
    assert not result.retryable
    assert scene.held() == {good}
    add_object(scene.repository, content(1))
    assert scene.download_missing().missing == {}


@pytest.mark.parametrize(
    ("status", "passing"), [(404, False), (410, False), (500, True), (503, True), (429, True)]
)
def test_a_storage_that_refuses(scene: Scene, status: int, passing: bool) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    scene.simulator.order(Fault(MEDIA, status=status, times=50))
    result = scene.download_missing()
    assert str(status) in result.missing[oid]
    assert result.retryable is passing
    assert result.missing[oid].endswith(": Something went wrong"), "in the server's own words"
    assert len(scene.asked()) == (TRIES_MAX if passing else 1)
    scene.simulator.faults.clear()
    assert scene.download_missing().missing == {}


def test_an_action_that_has_lapsed_is_asked_for_anew(scene: Scene) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    scene.simulator.order(Fault(MEDIA, status=403, times=2))
    assert scene.download_missing().missing == {}
    assert len([one for one in scene.simulator.requests if one.path.endswith("/batch")]) == 3
    # Mirror does not even try an action that will have expired.
    object_path(scene.lfs, oid).unlink()
    scene.simulator.app.lfs.seconds = 5
    scene.simulator.requests.clear()
    assert scene.download_missing().missing == {}
    assert len(scene.asked()) == 1
    assert len(scene.simulator.requests) == 3
    # The result reports a permanent refusal.
    object_path(scene.lfs, oid).unlink()
    scene.simulator.order(Fault(MEDIA, status=403, times=50))
    assert "403" in scene.download_missing().missing[oid]


@pytest.mark.parametrize("scene", [replace(Switches(), lfs_expiry_is_a_time=True)], indirect=True)
def test_when_an_action_lapses_may_be_a_time_of_day(scene: Scene) -> None:
    scene.commit(content(1))
    scene.fetch()
    scene.simulator.app.lfs.seconds = -100
    result = scene.download_missing()
    # The server's own storage refuses it, too; a new action does not help.
    said = "The request is not signed, or no longer"
    assert list(result.missing.values()) == [f"{scene.simulator.storage_url[7:]} answered 403: {said}"]
    scene.simulator.app.lfs.seconds = 900
    assert scene.download_missing().missing == {}


@pytest.mark.parametrize(("status", "denied", "passing"), [
    (401, True, False), (403, True, False), (404, False, False), (410, False, False), (501, False, False),
    (500, False, True), (429, False, True),
])  # fmt: skip
def test_a_server_that_refuses_it_all(scene: Scene, status: int, denied: bool, passing: bool) -> None:
    oids = scene.commit(content(1), content(2))
    scene.fetch()
    scene.simulator.order(Fault(BATCH, status=status, times=50))
    result = scene.download_missing()
    assert set(result.missing) == set(oids)
    assert (result.denied, result.retryable) == (denied, passing)
    assert all(str(status) in reason for reason in result.missing.values())


def test_a_server_says_how_long_to_wait(scene: Scene) -> None:
    scene.commit(content(1))
    scene.fetch()
    scene.simulator.order(Fault(BATCH, status=429, headers=(("Retry-After", "17"),)))
    scene.simulator.order(Fault(MEDIA, status=503, headers=(("Retry-After", "9"),)))
    assert scene.download_missing().missing == {}
    assert scene.watch.slept == [17, 9]
    scene.commit(content(2))
    scene.fetch()
    scene.simulator.order(Fault(BATCH, status=429, headers=(("Retry-After", "3600"),)))
    result = scene.download_missing()
    assert result.retryable and len(result.missing) == 1
    assert scene.watch.slept == [17, 9]


@pytest.mark.parametrize("scene", [replace(Switches(), lfs_takes_access_tokens=False)], indirect=True)
def test_a_server_that_takes_no_access_tokens(scene: Scene) -> None:
    scene.commit(content(1))
    scene.fetch()
    result = scene.download_missing()
    assert result.denied and len(result.missing) == 1
    user = scene.world.add_user("Ann", "ann@acme.example")
    token = scene.world.add_api_token(user, ["read:repository:bitbucket"])
    assert scene.download_missing(login=GitLogin("x-bitbucket-api-token-auth", token)).missing == {}


def test_a_page_for_people_is_no_answer(scene: Scene) -> None:
    scene.commit(content(1))
    scene.fetch()
    scene.simulator.order(Fault(BATCH, "html"))
    assert "may not support LFS" in next(iter(scene.download_missing().missing.values()))
    scene.simulator.order(Fault(MEDIA, "html", times=9))
    assert len(scene.download_missing().missing) == 1
    assert scene.held() == set()


def answered(scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Any) -> LfsResult:
    """The objects in the mirror, if the server's responses are changed like this."""
    real = scene.simulator.app.lfs._json

    def give(document: dict[str, Any]) -> Response:
        return real(change(document))

    monkeypatch.setattr(scene.simulator.app.lfs, "_json", give)
    return scene.download_missing()


HOSTILE = {
    "another host by plain http": lambda one: one["actions"]["download"].update(href="http://example.org/x"),
    "a file": lambda one: one["actions"]["download"].update(href="file:///etc/passwd"),
    "no address": lambda one: one["actions"]["download"].pop("href"),
    "a credential in the address": lambda one: one["actions"]["download"].update(href="https://me:pw@x.org/"),
    "an address with a line": lambda one: one["actions"]["download"].update(href="https://x.org/\r\nA: b"),
    "a port that is none": lambda one: one["actions"]["download"].update(href="https://x.org:99999/"),
    "a header with a line": lambda one: one["actions"]["download"].update(header={"A": "b\r\nC: d"}),
    "headers that are none": lambda one: one["actions"]["download"].update(header=[1]),
    "silence": lambda one: one.update(oid="00" * 32),
    "no action": lambda one: one.pop("actions"),
    "an action that is none": lambda one: one.update(actions={"download": 7}),
    "an error that is none": lambda one: one.update(error="no"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_server_that_leads_astray(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()

    def change(document: dict[str, Any]) -> dict[str, Any]:
        for one in document["objects"]:
            HOSTILE[what](one)
        return document

    result = answered(scene, monkeypatch, change)
    assert result.objects == {oid: (5000, False)}
    assert result.missing[oid]
    assert scene.asked() == []


@pytest.mark.parametrize("document", [
    {}, {"objects": 7}, {"objects": [7, None, {}]}, {"transfer": "tus", "objects": []},
    {"objects": [], "hash_algo": "md5"},
])  # fmt: skip
def test_a_server_that_answers_with_nonsense(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    assert oid in answered(scene, monkeypatch, lambda _: document).missing


ODD: dict[str, Callable[[dict[str, Any]], None]] = {
    "an id that is a list": lambda document: document["objects"].append({"oid": ["x"]}),
    "an id that is an object": lambda document: document["objects"].append({"oid": {}}),
    "a time that never ends": lambda document: lasting(document, expires_in=10**400),
    "a time without end": lambda document: lasting(document, expires_in=float("inf")),
    "a time that is none": lambda document: lasting(document, expires_in=float("nan"), expires_at=7),
    "the last of all days": lambda document: lasting(document, expires_at="9999-12-31T23:59:59-14:00"),
    "a transfer that is null": lambda document: document.update(transfer=None),
    "a transfer left blank": lambda document: document.update(transfer=""),
    "a hash that is null": lambda document: document.update(hash_algo=None),
    "a hash left blank": lambda document: document.update(hash_algo=""),
}


def lasting(document: dict[str, Any], **words: object) -> None:
    for one in document["objects"]:
        action = one["actions"]["download"]
        action.pop("expires_in", None)
        action.update(words)


@pytest.mark.parametrize("what", ODD)
def test_an_odd_answer_keeps_no_object_away(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    oids = scene.commit(content(1), content(2))
    scene.fetch()

    def change(document: dict[str, Any]) -> dict[str, Any]:
        ODD[what](document)
        return document

    assert answered(scene, monkeypatch, change).missing == {}
    assert scene.held() == set(oids)


@pytest.mark.parametrize("where", [MEDIA, BATCH])
def test_a_server_that_names_no_day_to_wait_for(scene: Scene, where: str) -> None:
    scene.commit(content(1))
    scene.fetch()
    after = (("Retry-After", "Mon, 01 Jan 2024 00:00:00 +99999999999999"),)
    scene.simulator.order(Fault(where, status=503, headers=after))
    assert scene.download_missing().missing == {}
    [slept] = scene.watch.slept
    assert 0.25 <= slept <= 0.5


def test_a_redirect_to_another_origin_gets_no_headers(scene: Scene, tmp_path: Path) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    with Simulator(World(tmp_path / "elsewhere")) as other:
        scene.simulator.order(Fault(MEDIA, "redirect", location=f"{other.git_url}/storage/lfs/x/y"))
        assert oid in scene.download_missing().missing
        [asked] = other.requests
    assert "authorization" not in asked.headers
    # A batch request never goes to another origin.
    with Simulator(World(tmp_path / "elsewhere")) as other:
        scene.simulator.order(Fault(BATCH, "redirect", location=f"{other.git_url}/x"))
        assert "redirect" in scene.download_missing().missing[oid]
        assert other.requests == []


def test_headers_that_are_ours_are_not_the_servers_to_set() -> None:
    given = {"Authorization": "x", "Range": "bytes=0-1", "Host": "evil", "content-length": "7", "X-A": "b"}
    assert action_headers(given) == {"Authorization": "x", "X-A": "b"}
    session = Session("https://bitbucket.org/acme/game.git", 1.0, 1)
    assert session.url_fault("http://127.0.0.1/x") == "its URL is not https"
    assert session.url_fault("https://media.example/x") is None
    session.close()


def test_batches_have_each_object_once() -> None:
    wanted = [(f"{number % 150:064x}", number) for number in range(400)]
    found = list(batches(wanted))
    assert sorted(one for batch in found for one in batch) == sorted(wanted)
    assert all(len({oid for oid, _ in batch}) == len(batch) <= BATCH_MAX for batch in found)


@contextmanager
def full_disk() -> Iterator[None]:
    """While no object can get its name."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError(28, "No space left on device")
        return real(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        yield


def test_a_disk_that_is_full_is_told(scene: Scene) -> None:
    oids = scene.commit(*(content(number) for number in range(6)))
    scene.fetch()
    with full_disk():
        result = scene.download_missing(width=1)
    assert set(result.missing) == set(oids)
    assert all("No space left" in reason for reason in result.missing.values())
    assert not result.retryable
    assert len(scene.asked()) < 6
    # Mirror does not ask again for what had arrived.
    assert scene.download_missing().received_bytes < 6 * 5000
    assert scene.held() == set(oids)


def test_a_disk_that_is_full_is_not_tried_with_another_size(scene: Scene) -> None:
    oid = oid_of(content(1))
    add_object(scene.repository, content(1))
    scene.repository.commit("main", {"a": pointer(oid, 5000), "b": pointer(oid, 5001)}, "x\n")
    scene.fetch()
    with full_disk():
        result = scene.download_missing()
    assert "No space left" in result.missing[oid]
    assert len(scene.asked()) == 1


# -- uploads


def test_objects_are_brought_to_another_server(scene: Scene) -> None:
    oids = scene.commit(*(content(number) for number in range(5)))
    [lost] = scene.commit(content(50), keep=False)
    scene.fetch()
    scene.download_missing()
    tip = scene.repository.branch("main")
    assert tip is not None
    target = scene.world.workspaces["acme"].add_repository("again")
    job = LfsPushJob(
        str(scene.mirror), f"{scene.simulator.git_url}/acme/again.git", scene.login, (tip,), pause=0.5
    )
    assert upload_missing(replace(job, dry_run=True)).objects == 6
    assert not (target.git_path / "lfs").exists()
    scene.simulator.order(Fault("PUT /storage/lfs/*", status=503))
    result = upload_missing(job, watch=scene.watch)
    assert (result.uploaded, result.already_present, result.absent) == (5, 0, (lost,))
    assert (result.failed, result.refused) == ({}, None)
    assert all(object_file(target, oid).read_bytes() for oid in oids)
    again = upload_missing(job, watch=scene.watch)
    assert (again.uploaded, again.already_present) == (0, 5)
    uploads = [one for one in scene.asked() if one.method == "PUT"]
    assert all(scene.login.password not in json.dumps(one.headers) for one in uploads)


def test_what_is_asked_of_the_server_itself_is_signed_as_the_batch_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action on our own origin without its own sign-in gets ours."""
    scene.commit(content(1))
    scene.fetch()
    scene.download_missing()
    tip = scene.repository.branch("main")
    assert tip is not None
    scene.world.workspaces["acme"].add_repository("again")
    job = LfsPushJob(str(scene.mirror), f"{scene.simulator.git_url}/acme/again.git", scene.login, (tip,))
    real = scene.simulator.app.lfs._action

    def unsigned(method: str, base: str, path: str) -> dict[str, Any]:
        action = real(method, base, path)
        return {"href": base + path} if method == "POST" else action

    monkeypatch.setattr(scene.simulator.app.lfs, "_action", unsigned)
    assert upload_missing(job, watch=scene.watch).uploaded == 1
    [verified] = [one for one in scene.simulator.requests if one.path.endswith("/verify")]
    assert verified.headers["authorization"].startswith("Basic ")


def test_a_server_that_takes_no_objects_says_so(scene: Scene) -> None:
    [oid] = scene.commit(content(1))
    scene.fetch()
    scene.download_missing()
    tip = scene.repository.branch("main")
    assert tip is not None
    job = LfsPushJob(str(scene.mirror), scene.url, scene.login, (tip,), pause=0.5)
    object_file(scene.repository, oid).unlink()
    readonly = GitLogin("x-token-auth", scene.world.add_workspace_access_token("acme", SCOPES))
    result = upload_missing(replace(job, login=readonly), watch=scene.watch)
    assert "403" in str(result.refused) and list(result.failed) == [oid]
    scene.simulator.order(Fault(BATCH, status=404))
    assert "knows no LFS" in str(upload_missing(job, watch=scene.watch).refused)
    scene.simulator.order(Fault("PUT /storage/lfs/*", status=400, times=9))
    assert "400" in upload_missing(job, watch=scene.watch).failed[oid]


@pytest.mark.git
def test_git_lfs_finds_them_in_the_mirror(scene: Scene, tmp_path: Path) -> None:
    need_git()
    data = content(1)
    made = add_object(scene.repository, data)
    files = {"a.bin": made, ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}
    scene.repository.commit("main", files, "x\n")
    scene.fetch()
    scene.download_missing()
    git("lfs", "fsck", cwd=scene.mirror)
    clone = tmp_path / "clone"
    lfs = ["-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.process=git-lfs filter-process"]
    git(*lfs, "clone", "-q", f"file://{scene.mirror}", str(clone))
    assert (clone / "a.bin").read_bytes() == data


class Hurry(Patience):
    """A clock that moves hours with every reading."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return 10_000.0 * self.looks


def test_what_trickles_is_given_up_and_gone_on_with_later(scene: Scene) -> None:
    [oid] = scene.commit(content(1, 2_000_000))
    scene.fetch()
    patient, scene.watch = scene.watch, Hurry()
    result = scene.download_missing()
    assert "bytes a second; given up" in result.missing[oid] and result.retryable
    assert 0 < part_path(scene.lfs, oid).stat().st_size < 2_000_000
    assert len(scene.asked()) == 1  # an immediate retry would be as slow
    scene.watch = patient
    assert scene.download_missing().missing == {}
    assert scene.held() == {oid}
