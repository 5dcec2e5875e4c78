"""Mirror reads secrets from their sources, or refuses and says what to do; it never shows them."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path
from typing import Literal

import pytest

from mirror.auth.secrets import COMMAND_TIMEOUT, Secret, SecretSource, read_secret
from mirror.errors import UsageError
from mirror.logs import redact

VALUE = "s3cret-value-of-this-test"


def private(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


async def test_file_environment_credential_and_command_give_the_same_secret(tmp_path: Path) -> None:
    file = private(tmp_path / "token", VALUE + "\n")
    environment = {"TOKEN": VALUE, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    sources = [
        SecretSource("file", str(file)),
        SecretSource("env", "TOKEN"),
        SecretSource("credential", "token"),
        SecretSource("command", (sys.executable, "-c", f"print({VALUE!r})")),
    ]
    assert [(await read_secret(one, environment=environment)).reveal() for one in sources] == [VALUE] * 4


@pytest.mark.parametrize("ending", ["\n", "\r\n", "", "\n\n", "\r\n\r\n", "\n  \n\t\n"])
async def test_line_ends_and_blank_lines_after_it_are_dropped(tmp_path: Path, ending: str) -> None:
    file = private(tmp_path / "token", VALUE + ending)
    assert (await read_secret(SecretSource("file", str(file)), environment={})).reveal() == VALUE


async def test_a_file_that_everybody_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = private(tmp_path / "token", VALUE)
    file.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        await read_secret(SecretSource("file", str(file)), environment={})
    assert str(file) in caught.value.message
    assert caught.value.hint == f"run: chmod o-rwx {file}"
    file.chmod(0o640)
    assert (await read_secret(SecretSource("file", str(file)), environment={})).reveal() == VALUE


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "   \n",
        f"{VALUE}\nsecond line\n",
        f"{VALUE}\n\nx",
        f"{VALUE}\0",
        b"\xff\xfe\xfd" * 9,
        "x" * 70_000,
    ],
)
async def test_what_cannot_be_a_secret_is_refused_without_repeating_it(
    tmp_path: Path, content: str | bytes
) -> None:
    file = private(tmp_path / "token", content)
    with pytest.raises(UsageError) as caught:
        await read_secret(SecretSource("file", str(file)), environment={})
    assert VALUE not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "source",
    [
        SecretSource("file", "/nowhere/at/all"),
        SecretSource("file", "with\0nul"),
        SecretSource("env", "NOT_SET"),
        SecretSource("env", "EMPTY"),
        SecretSource("credential", "not-there"),
        SecretSource("credential", "../outside"),
        SecretSource("credential", ".."),
        SecretSource("command", ("/nowhere/program",)),
        SecretSource("command", ()),
        SecretSource("command", (sys.executable, "-c", "raise SystemExit(3)")),
        SecretSource("command", (sys.executable, "-c", "pass")),
    ],
    ids=str,
)
async def test_a_secret_that_is_not_there_says_what_to_do(tmp_path: Path, source: SecretSource) -> None:
    environment = {"EMPTY": "", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(UsageError) as caught:
        await read_secret(source, environment=environment)
    assert caught.value.exit_code == 2
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["file", "credential"])
async def test_a_pipe_or_a_device_is_refused_at_once(
    tmp_path: Path, kind: Literal["file", "credential"]
) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "zero").symlink_to("/dev/zero")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for name in ("pipe", "zero"):
        source = SecretSource(kind, name if kind == "credential" else str(tmp_path / name))
        with pytest.raises(UsageError, match="a pipe or a device"):
            await asyncio.wait_for(read_secret(source, environment=environment), 60)


async def test_a_directory_is_not_a_secret_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        await read_secret(SecretSource("file", str(tmp_path)), environment={})


async def test_credentials_without_systemd_say_how_to_load_them() -> None:
    with pytest.raises(UsageError, match="CREDENTIALS_DIRECTORY") as caught:
        await read_secret(SecretSource("credential", "token"), environment={})
    assert caught.value.hint is not None
    assert "LoadCredential=token" in caught.value.hint


async def test_what_a_command_writes_to_stderr_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    script = f"import sys; print({VALUE!r}, file=sys.stderr); raise SystemExit(1)"
    with pytest.raises(UsageError) as caught:
        await read_secret(SecretSource("command", (sys.executable, "-c", script)), environment={})
    out, err = capfd.readouterr()
    assert VALUE not in out + err + str(caught.value) + str(caught.value.hint)


async def test_the_arguments_of_a_command_are_not_shown() -> None:
    source = SecretSource("command", ("/nowhere/vault", "--password", VALUE))
    with pytest.raises(UsageError) as caught:
        await read_secret(source, environment={})
    assert VALUE not in str(caught.value) + str(source)


async def test_a_command_runs_without_a_shell(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    script = "import sys; print(sys.argv[1])"
    source = SecretSource("command", (sys.executable, "-c", script, f"$(touch {witness})"))
    assert (await read_secret(source, environment={})).reveal() == f"$(touch {witness})"
    assert not witness.exists()


async def test_a_token_written_where_a_name_belongs_is_not_repeated() -> None:
    token = "ATCTT3xFfGN0misplaced_token_value"
    for source in (SecretSource("env", token), SecretSource("credential", token + "/+=")):
        with pytest.raises(UsageError) as caught:
            await read_secret(source, environment={"CREDENTIALS_DIRECTORY": "/nowhere"})
        assert token not in str(caught.value) + str(source) + str(caught.value.hint)


def test_a_secret_hides_itself_and_is_known_to_the_logs() -> None:
    secret = Secret(VALUE)
    assert VALUE not in f"{secret} {secret!r} {secret!s} {[secret]} {vars(type(secret))}"
    assert redact(f"before {VALUE} after") == "before [redacted] after"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_are_equal_by_value() -> None:
    assert Secret(VALUE) == Secret(VALUE) != Secret(VALUE + "x")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1


async def test_other_work_goes_on_while_a_command_runs(tmp_path: Path) -> None:
    """The command waits for something that only the other task does."""
    go = tmp_path / "go"
    script = (
        f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.01)\n"
        "print('s3cret-value')"
    )
    reading = asyncio.ensure_future(
        read_secret(SecretSource("command", (sys.executable, "-c", script)), environment={})
    )
    await asyncio.sleep(0.05)
    assert not reading.done()
    go.touch()
    assert (await reading).reveal() == "s3cret-value"


@pytest.mark.parametrize("how", ["too long", "stopped"])
async def test_a_command_is_not_left_behind(tmp_path: Path, how: str) -> None:
    number = tmp_path / "pid"
    script = (
        f"import os, pathlib, time\npathlib.Path({str(number)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(1000)"
    )
    source = SecretSource("command", (sys.executable, "-c", script))
    timeout = 5.0 if how == "too long" else COMMAND_TIMEOUT
    reading = asyncio.ensure_future(read_secret(source, environment={}, command_timeout=timeout))
    while not number.exists() or not number.read_text():
        await asyncio.sleep(0.01)
    if how == "stopped":
        reading.cancel()
    with pytest.raises((UsageError, asyncio.CancelledError)):
        await reading
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


async def test_a_command_that_prints_without_end_is_ended() -> None:
    script = "while True: print('x' * 1000)"
    with pytest.raises(UsageError, match="larger than 65536 bytes"):
        await read_secret(SecretSource("command", (sys.executable, "-c", script)), environment={})


async def test_a_variable_that_is_not_utf_8_is_refused_without_repeating_it() -> None:
    environment = {"TOKEN": os.fsdecode(b"s3cret-\xff-value"), "GOOD": "p\u00e4ssw\u00f6rd"}
    with pytest.raises(UsageError, match="env TOKEN is not UTF-8 text") as caught:
        await read_secret(SecretSource("env", "TOKEN"), environment=environment)
    assert "s3cret" not in caught.value.message + (caught.value.hint or "")
    secret = await read_secret(SecretSource("env", "GOOD"), environment=environment)
    assert secret.reveal() == "p\u00e4ssw\u00f6rd"
