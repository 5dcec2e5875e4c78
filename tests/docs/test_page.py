"""The recipes of docs/page.md: the page opens as it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.docs.test_recipes import PAGE, recipes
from tests.web.helpers import make_store


def test_any_store_is_opened(tmp_path: Path) -> None:
    [code] = [one for one in recipes(PAGE) if "mirror web" in one]
    words = code.replace("/mnt/copy", str(make_store(tmp_path / "copy"))).split()
    assert words[0] == "mirror"
    words = [sys.executable, "-m", *words, "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert found is not None
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(found[0]) as answer:
                assert b"Nothing is backed up yet" in answer.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_the_configuration_of_the_page_is_good(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    [code] = [one for one in recipes(PAGE) if "config check" in one]
    binary = tmp_path / "bin" / "mirror"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mirror "$@"\n')
    binary.chmod(0o755)
    environment = {
        "PATH": f"{binary.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2]),
        "HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-eu", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "web-token").read_text().strip()) == 64
