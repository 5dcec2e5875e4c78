"""A PostgreSQL of a test session's own: Debian's, in a short temporary folder, on a Unix socket.

PostgreSQL refuses to run as root: then it is started as an unprivileged user. Nothing is fsynced, as nothing
here outlives the session. It ends with this process, however that ends, and its folder goes too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import pytest

# How long, in seconds, a test waits at most for what must happen.
PATIENCE = 120.0
_PORT = 5432
_SETTINGS = """
dynamic_shared_memory_type = mmap
shared_buffers = 32MB
max_connections = 200
max_wal_size = 256MB
unix_socket_permissions = 0777
log_min_messages = warning
timezone = UTC
"""
# Nothing is lost when its processes are killed, only when the machine is. A kill may tear a page.
_CARELESS = "fsync = off\n"
# Whoever reaches the socket is a test; TCP asks for the password.
_ACCESS = """
local all all trust
host all all all scram-sha-256
"""
# It lives until its stdin is closed, which the system does when this process ends. Then it clears up.
_WATCHER = """
read -r _
read -r pid < "$1/data/postmaster.pid" && kill -QUIT "$pid"
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1/data/postmaster.pid" ] || break; sleep 0.1; done
rm -rf -- "$1"
"""


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs (Debian keeps them out of PATH), of the newest version; or None."""
    found = [one for one in Path("/usr/lib/postgresql").glob("*/bin") if (one / "postgres").exists()]
    if found:
        return max(found, key=lambda one: float(one.parent.name))
    elsewhere = shutil.which("postgres")
    return Path(elsewhere).resolve().parent if elsewhere else None


def need_postgres() -> Path:
    """The folder of PostgreSQL's programs. Skips without them; in CI that is a failure."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have PostgreSQL")
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    return programs


def _unprivileged() -> tuple[list[str], int, int]:
    """Words to run a command with as somebody whom PostgreSQL accepts; who that is: user and group id."""
    if os.geteuid() != 0:
        return [], os.geteuid(), os.getegid()
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            who = pwd.getpwnam(name)
            words = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
            return words, who.pw_uid, who.pw_gid
    pytest.fail("no user called postgres or nobody: PostgreSQL refuses to run as root")


class Postgres:
    """A server that may be started, stopped, killed and continued. Close it in the end.

    `folder` holds the socket. `password` is what the user `postgres` gives over TCP, which is off until
    `listen` names addresses. With `durable` it writes as it does elsewhere, to a disk; tests do without.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._as_user, uid, gid = _unprivileged()
        # A socket's path has at most 107 bytes; a memory file system is fast.
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) and not durable else "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="mirror-pg-", dir=parent))
        os.chown(self.folder, uid, gid)
        self.folder.chmod(0o755)
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self.password = secrets.token_hex(16)
        self._addresses: Sequence[str] = ()
        self._made = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] = subprocess.Popen(
            ["sh", "-c", _WATCHER, "watcher", str(self.folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )
        try:
            self._initialize(uid, gid, _SETTINGS if durable else _SETTINGS + _CARELESS)
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialize(self, uid: int, gid: int, text: str) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        os.chown(secret, uid, gid)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=postgres", f"--pwfile={secret}", "--no-sync",
            "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-instructions",
        )  # fmt: skip
        secret.unlink()
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"{text}unix_socket_directories = '{self.folder}'\nport = {_PORT}\n")
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *words],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )
        if done.returncode != 0:
            raise AssertionError(f"{program}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def socket(self) -> Path:
        """The path of its Unix socket."""
        return self.folder / f".s.PGSQL.{_PORT}"

    @property
    def pid(self) -> int:
        """The process id of the server's first process. It runs."""
        assert self._server is not None, "the server does not run"
        return self._server.pid

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert self._server is None, "the server runs already"
        log: IO[bytes]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *self._as_user,
                    str(self._programs / "postgres"),
                    *("-D", str(self._data), "-c", f"listen_addresses={','.join(self._addresses)}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,
            )
        self._wait(self._is_ready, "started")

    def _is_ready(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self.log()
        words = [str(self._programs / "pg_isready"), "--quiet", "--username=postgres"]
        return subprocess.run([*words, "--host", str(self.folder), "--port", str(_PORT)]).returncode == 0

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"PostgreSQL has not {what}: {self.log()}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it, if it runs, and wait until it has ended: by SIGTERM (it waits for its clients), SIGINT (it
        ends their sessions) or SIGQUIT (at once; it recovers when started again)."""
        if self._server is not None:
            self._server.send_signal(number)
            self._server.wait(PATIENCE)
            self._server = None

    def restart(self) -> None:
        """End all sessions and start again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL for all of its processes, as a lack of memory or of power does it."""
        if self._server is not None:
            for one in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            self._server.wait(PATIENCE)
            self._server = None

    def processes(self) -> list[int]:
        """The server's first process, and the others."""
        return [self.pid, *self._children()]

    def _children(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            return [int(word) for word in children.split()]
        return []

    def pause(self) -> None:
        """Stop all of its processes where they are: connections stay open and nothing answers."""
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)

    def proceed(self) -> None:
        """Continue what `pause` stopped."""
        for one in reversed(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)

    def listen(self, *addresses: str) -> None:
        """Restart it with TCP on these addresses of this machine; with none, on the socket alone."""
        self.stop()
        self._addresses = addresses
        self.start()

    def url(self, database: str, host: str | None = None) -> str:
        """How to connect to a database: by the socket, or by an address that was given to `listen`. It does
        not contain the password."""
        if host is None:
            return f"postgresql://postgres@/{database}?host={self.folder}&port={_PORT}"
        return f"postgresql://postgres@{host}:{_PORT}/{database}"

    def query(self, sql: str, database: str = "postgres") -> list[list[str]]:
        """What SQL statements return, by C client: rows of texts. Needs no library of ours."""
        out = self._run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", "-h", str(self.folder),
            "-p", str(_PORT), "-U", "postgres", "-d", database, "-c", sql,
        )  # fmt: skip
        return [line.split("\x1f") for line in out.splitlines()]

    def make_database(self, template: str = "template1") -> str:
        """Make a database like the one called `template`; returns its name."""
        self._made += 1
        name = f"t{self._made}"
        self.query(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, with everybody's sessions in it."""
        self.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def log(self) -> str:
        """What it has logged, its last 4,000 characters."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def close(self) -> None:
        """End it at once, and remove everything."""
        self.stop(signal.SIGQUIT)  # one that is killed leaves shared memory behind
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait(PATIENCE)
