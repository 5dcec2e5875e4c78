"""Secrets: their sources, and values that hide their text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

from mirror.errors import UsageError
from mirror.logs import redact, register_secret

SourceKind = Literal["file", "env", "credential", "command"]

COMMAND_TIMEOUT = 30.0
SECRET_BYTES_MAX = 64 * 1024
# Shorter lines of a secret of several lines may be ordinary words.
_LINE_LEAST = 12
_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_BLANK_END = re.compile(r"(?:\r?\n[ \t]*)+\Z")


@dataclass(frozen=True)
class SecretSource:
    """Where a secret is read from; never the secret itself.

    `value` is a path (`file`), a variable's name (`env`), the name of a systemd credential
    (`credential`), or a program with its arguments (`command`).
    """

    kind: SourceKind
    value: str | tuple[str, ...]

    def __str__(self) -> str:
        """For messages: without a program's arguments, and without a text that may be the secret itself, put
        in the wrong place."""
        text = self.value if isinstance(self.value, str) else next(iter(self.value), "")
        if self.kind in ("env", "credential") and not _NAME.fullmatch(text):
            text = "(not a name)"
        return f"{self.kind} {redact(text)}"


class Secret:
    """A secret value. Its text form hides it, and it refuses to be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register_secret(value)
        for line in value.splitlines():  # a message may have one line of several
            if len(line) >= _LINE_LEAST:
                register_secret(line)

    def reveal(self) -> str:
        """The value itself; only for signing."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets cannot be pickled")


async def read_secret(
    source: SecretSource,
    *,
    environment: Mapping[str, str],
    command_timeout: float = COMMAND_TIMEOUT,
    may_have_lines: bool = False,
) -> Secret:
    """Read the secret at `source` now, without trailing line ends and blank lines. A command runs
    asynchronously, for at most `command_timeout` seconds.

    One that `may_have_lines`, such as a private key, keeps them, each ended as Unix ends lines: programs that
    read keys refuse one whose last line has no end.

    Raises UsageError, which never contains what was read.
    """
    match source.kind:
        case "file":
            text = _read_file(Path(str(source.value)))
        case "env":
            text = environment.get(str(source.value), "")
            if not text:
                raise UsageError(
                    f"the secret from {source} is missing: the variable is not set, or empty",
                    hint="set it for this process, or name another source for the secret",
                )
            text = _decode(os.fsencode(text), f"the secret from {source}")
        case "credential":
            text = _read_credential(str(source.value), environment)
        case "command":
            command = (source.value,) if isinstance(source.value, str) else source.value
            text = await _run(command, environment, command_timeout)
    text = _BLANK_END.sub("", text)
    if not text.strip():
        raise UsageError(f"the secret from {source} is empty", hint="put the secret there")
    if may_have_lines and "\n" in text and "\0" not in text:
        return Secret(text.replace("\r\n", "\n") + "\n")
    if any(sign in text for sign in "\r\n\0"):
        raise UsageError(
            f"the secret from {source} has more than one line", hint="leave only the secret there"
        )
    return Secret(text)


def _read_file(path: Path) -> str:
    try:
        with _open_file(path) as stream:
            mode = os.fstat(stream.fileno()).st_mode  # of the opened file: the path may have changed
            if mode & stat.S_IROTH:
                raise UsageError(
                    f"the secret file {path} can be read by everybody", hint=f"run: chmod o-rwx {path}"
                )
            data = stream.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the secret file {path} cannot be read: {_reason(error)}",
            hint="check the path, and that this user may read it",
        ) from None
    return _decode(data, f"the secret file {path}")


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file. A pipe, which may block for ever, and a device, which has no end, are refused
    at once. Raises UsageError and OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UsageError(
            f"the secret file {path} cannot be read: it is {what}",
            hint="put the secret into a file, or name a program that prints it: {command: …}",
        )
    return os.fdopen(descriptor, "rb")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _read_credential(name: str, environment: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(
            "the name of a systemd credential is malformed", hint="use the id from LoadCredential="
        )
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise UsageError(
            f"the systemd credential {name} cannot be read: CREDENTIALS_DIRECTORY is not set",
            hint=f"start the service with LoadCredential={name}:/path/to/file, or name another source",
        )
    try:
        with _open_file(Path(folder) / name) as stream:
            data = stream.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"the systemd credential {name} cannot be read: {_reason(error)}",
            hint=f"add LoadCredential={name}:/path/to/file to the unit",
        ) from None
    return _decode(data, f"the systemd credential {name}")


async def _run(command: tuple[str, ...], environment: Mapping[str, str], seconds: float) -> str:
    if not command:
        raise UsageError("the secret command is empty", hint="name a program and its arguments")
    program = command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may contain what must not be shown
            env=dict(environment),
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the secret command {program} cannot be started: {_reason(error)}", hint="give its full path"
        ) from None
    try:
        async with asyncio.timeout(seconds):
            data = await _output(process)
            code = await process.wait() if len(data) <= SECRET_BYTES_MAX else 0
    except TimeoutError:
        raise UsageError(
            f"the secret command {program} took longer than {seconds:.0f} s",
            hint="use a program that needs no input",
        ) from None
    finally:
        # Never leave it running.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        raise UsageError(f"the secret command {program} ended with {code}", hint="run it by hand to see why")
    return _decode(data, f"what the secret command {program} printed")


async def _output(process: asyncio.subprocess.Process) -> bytes:
    """Its standard output, up to just above the size limit of a secret."""
    assert process.stdout is not None
    data = b""
    while len(data) <= SECRET_BYTES_MAX and (piece := await process.stdout.read(SECRET_BYTES_MAX)):
        data += piece
    return data


def _decode(data: bytes, what: str) -> str:
    if len(data) > SECRET_BYTES_MAX:
        raise UsageError(
            f"{what} is larger than {SECRET_BYTES_MAX} bytes", hint="leave only the secret there"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text", hint="leave only the secret there") from None
