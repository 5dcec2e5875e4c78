"""The command as a person runs it, by the recipe of the docs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.store.reading.reader import Store
from tests.e2e.helpers import json_of, mirror
from tests.forgejo.fake import FakeForgejo

DOCS = Path(__file__).parents[2] / "docs" / "restore.md"
# The sample has a file that a Forgejo refuses, so no restore of it is whole.
INCOMPLETE = 3


def recipe() -> Iterator[list[str]]:
    """The words of each command of the recipe, without the program."""
    [block] = re.findall(r"^```shell\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for line in block.splitlines()]
    assert lines[0] == ["export", "FORGEJO_TOKEN_FILE=/run/secrets/forgejo"]
    yield from (line[1:] for line in lines[1:])


@pytest.mark.git
def test_the_recipe_of_the_docs(stored: Store, forge: FakeForgejo, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(f"{forge.token}\n")
    environment = {"FORGEJO_TOKEN_FILE": str(token), "XDG_STATE_HOME": str(tmp_path / "state")}
    changes = {"/mnt/backup": str(stored.path), "https://git.example.org": forge.url}

    def follow(words: list[str]) -> list[str]:
        return [re.sub("|".join(changes), lambda found: changes[found[0]], word) for word in words]

    planning, restoring = recipe()
    planned = mirror(*follow(planning), env=environment)
    assert planned.returncode == 0, planned.stderr
    assert f"Would restore acme/website to forgejo:{forge.url}/acme" in planned.stdout
    assert "POST issues" in planned.stdout
    assert "requests an hour" not in planned.stdout
    assert forge.writes() == []
    done = mirror(*follow(restoring), "--json", env=environment)
    assert done.returncode == INCOMPLETE, done.stderr
    report = json_of(done)
    assert report["counts"]["refused"] == 1
    assert len(forge.forge.repositories["acme", "website"].list("issues")) == 7
    assert forge.token not in planned.stdout + planned.stderr + done.stdout + done.stderr


def test_without_a_token_or_with_a_wrong_place_nothing_is_asked(forge: FakeForgejo, tmp_path: Path) -> None:
    words = ("restore", "--store", str(tmp_path), "acme/website", "--to", f"forgejo:{forge.url}/acme")
    lacking = mirror(*words)
    assert lacking.returncode == 2
    assert "FORGEJO_TOKEN" in lacking.stderr
    wrong = mirror(*words[:-1], "forgejo:https://ann:s3cr3t@git.example.org/acme")
    assert wrong.returncode == 2
    assert "s3cr3t" not in wrong.stderr
    assert forge.asked == []
