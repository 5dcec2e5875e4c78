"""The server in its caller's loop, and `mirror web` as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mirror.config import address
from mirror.errors import UsageError
from mirror.web import serving
from tests.e2e.helpers import mirror
from tests.web.helpers import make_store

ANY = address("127.0.0.1:0")


async def _ask(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        return await browser.get(url)


async def test_it_serves_inside_the_block_and_frees_its_address() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        async with serving(PlainTextResponse("here"), ANY, key="web.listen") as there:
            assert (await _ask(f"http://{there.text}/")).text == "here"
            assert signal.getsignal(signal.SIGTERM) is handler, "signals are the caller's"
        with pytest.raises(httpx.ConnectError):
            await _ask(f"http://{there.text}/")
        async with serving(PlainTextResponse("again"), there, key="web.listen"):
            assert (await _ask(f"http://{there.text}/")).text == "again"


async def test_an_address_in_use_is_an_error_that_names_it_and_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = address(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UsageError, match=r"web\.listen: cannot listen on 127\.0\.0\.1:") as caught:
            async with serving(PlainTextResponse(""), wanted, key="web.listen"):
                pass
    assert "another port" in str(caught.value.hint)


async def test_an_error_inside_stops_the_server_and_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with serving(PlainTextResponse(""), ANY, key="web.listen") as there:
            raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        await _ask(f"http://{there.text}/")


async def test_a_server_that_fails_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("uvicorn.Server.main_loop", failing)
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(PlainTextResponse(""), ANY, key="web.listen"):
            await asyncio.Event().wait()
    assert isinstance(caught.value.exceptions[0], OSError)


def test_mirror_web_shows_any_store_without_a_configuration(tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    words = [sys.executable, "-m", "mirror", "web", "--store", "store", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition("http://")[2].split()[0]
            assert asyncio.run(_ask(f"http://{url}")).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 130
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--store", "nothing"), 10, "no store"),
        (("--store", "store", "--listen", "0.0.0.0:0"), 2, "let everybody who reaches it read the store"),
        (("--store", "store", "--listen", "here"), 2, "IP address and a port"),
    ],
)
def test_what_mirror_web_refuses(tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    make_store(tmp_path / "store")
    done = mirror("web", *words, cwd=tmp_path)
    assert done.returncode == code
    assert text in done.stderr
