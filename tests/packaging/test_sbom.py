"""The bill of materials says what the lock says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from mirror import __version__
from tests.packaging.conftest import ROOT


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/sbom.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_has_every_distribution_of_the_lock_with_its_hashes(bill: dict[str, Any]) -> None:
    told = {
        (one["name"], one["version"], digest["content"])
        for one in bill["components"]
        for digest in one["hashes"]
    }
    locked = set()
    name = version = ""
    for line in (ROOT / "requirements/run.lock").read_text().splitlines():
        if found := re.match(r"(\S+?)==(\S+)", line):
            name, version = found[1].lower().replace("_", "-"), found[2]
        locked |= {(name, version, digest) for digest in re.findall(r"sha256:(\w+)", line)}
    assert told == locked


def test_every_dependency_is_reached_from_the_program(bill: dict[str, Any]) -> None:
    top = bill["metadata"]["component"]
    assert (top["name"], top["version"]) == ("mirror", __version__)
    edges = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    reached, waiting = set(), [top["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += edges[ref]
    others = {one["bom-ref"] for one in bill["components"]} - reached
    assert all("tzdata" in ref for ref in others)  # for Windows only


def test_every_component_that_is_installed_has_a_licence(bill: dict[str, Any]) -> None:
    assert [one["name"] for one in bill["components"] if "licenses" not in one] == ["tzdata"]
