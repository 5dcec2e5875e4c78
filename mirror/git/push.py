"""Pushing the refs of a snapshot to another git server or a local repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dulwich.client import GitClient, LocalGitClient, SendPackResult
from dulwich.objects import ObjectID

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed, PushRefused
from mirror.git.jobs import Clock, Tell
from mirror.git.refs import close, open_repository
from mirror.git.transport import GitLogin, HttpClient


@dataclass(frozen=True)
class PushJob:
    """Give the repository at `url` (http, https or file) these `refs`, from the mirror at `mirror`.

    Without `overwrite`, nothing at all is pushed where the target has a ref of the same name with
    another value. Refs that the target has besides are left alone.
    """

    mirror: str
    url: str
    login: GitLogin | None
    refs: Mapping[bytes, str]
    overwrite: bool = False
    dry_run: bool = False
    silence_timeout: float = 300.0

    def do(self, tell: Tell, _clock: Clock, /) -> PushResult:
        """See `push`."""
        return push(self, tell=tell)


@dataclass(frozen=True)
class PushResult:
    """What a push did, ref by ref."""

    pushed: tuple[bytes, ...] = ()
    unchanged: tuple[bytes, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    would_overwrite: tuple[bytes, ...] = ()
    unrelated: tuple[bytes, ...] = field(default=())


class _Plan:
    """What to do once the target has told its refs."""

    def __init__(self, job: PushJob) -> None:
        self._job = job
        self.send: dict[bytes, str] = {}
        self.unchanged: list[bytes] = []
        self.would_overwrite: list[bytes] = []
        self.unrelated: list[bytes] = []

    def __call__(self, theirs: Mapping[bytes, bytes]) -> dict[bytes, ObjectID]:
        now = {bytes(name): bytes(value).decode("ascii") for name, value in theirs.items() if value}
        for name, value in sorted(self._job.refs.items()):
            if now.get(name) == value:
                self.unchanged.append(name)
                continue
            if name in now:
                self.would_overwrite.append(name)
            self.send[name] = value
        self.unrelated = sorted(
            name
            for name in now.keys() - self._job.refs.keys()
            if name.startswith(b"refs/") and not name.endswith(b"^{}")
        )
        if self._job.dry_run or (self.would_overwrite and not self._job.overwrite):
            return {}
        return {name: ObjectID(value.encode("ascii")) for name, value in self.send.items()}


def push(job: PushJob, *, tell: Callable[[str], None] = lambda _: None) -> PushResult:
    """Do `job`. Raises the errors of `mirror.git.failures`; a ref that the target alone refused is
    in the result instead."""
    plan = _Plan(job)
    client, path = _client(job)
    repository = open_repository(Path(job.mirror))
    try:

        def objects(
            have: Iterable[ObjectID],
            want: Iterable[ObjectID],
            *,
            ofs_delta: bool = False,
            progress: Any = None,
        ) -> Any:
            known = {identifier for identifier in have if identifier in repository.object_store}
            tell("packing")
            return repository.generate_pack_data(known, set(want), ofs_delta=ofs_delta, progress=progress)

        result: SendPackResult = client.send_pack(path, plan, objects)  # type: ignore[arg-type]
    except (MirrorError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PushRefused(f"the target did not take the push: {type(error).__name__}: {error}") from error
    finally:
        close(repository)
    return _result(job, plan, result)


def _result(job: PushJob, plan: _Plan, result: SendPackResult) -> PushResult:
    refused = [
        (bytes(name), str(status)) for name, status in (result.ref_status or {}).items() if status is not None
    ]
    failed = {name for name, _ in refused}
    stopped = bool(plan.would_overwrite) and not job.overwrite
    pushed = () if stopped else tuple(name for name in plan.send if name not in failed)
    return PushResult(
        pushed=pushed,
        unchanged=tuple(plan.unchanged),
        refused=tuple(refused),
        would_overwrite=tuple(plan.would_overwrite),
        unrelated=tuple(plan.unrelated),
    )


def _client(job: PushJob) -> tuple[GitClient, str]:
    parts = urlsplit(job.url)
    if parts.scheme == "file":
        target = Path(unquote(parts.path))
        if not target.is_dir():
            raise GitFailed(f"{target} is not a repository; make one with `git init --bare`")
        return LocalGitClient(), str(target)
    return HttpClient(job.url, login=job.login, silence_timeout=job.silence_timeout), ""
