"""An impossible command line gets a plain error and exit code 2, and changes nothing."""

from __future__ import annotations

import os

import pytest

from mirror.browse.documents import document_path
from tests.e2e.helpers import mirror
from tests.place import Place


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("restore", "acme/website", "--to", "http://user:s3cr3t@[x"), "malformed URL"),
        (("restore", "acme/website", "--to", "http://x:99999/s3cr3t"), "malformed URL"),
        (("restore", "acme/website", "--to", "https:///s3cr3t"), "malformed URL"),
        (("restore", "acme/website", "--to", "/", "--overwrite", "--yes"), "the root of the file system"),
        (
            ("restore", "acme/website", "--to", "/tmp/..", "--overwrite", "--yes"),
            "the root of the file system",
        ),
        (("restore", "acme/website", "--to", "bitbuket:acme"), "did you mean bitbucket:?"),
        (("restore", "acme/website", "--to", "bitbucket.org:acme/a.git"), "over ssh"),
        (("restore", "acme/website", "--to", "x", "--check"), "into Bitbucket"),
        (("diff", "acme/website", "latest", "upstreem"), "did you mean upstream?"),
        (("show", "acme/website", "pull-requests/²"), "has no pull-requests/²"),
        (("show", "acme/website", "pull-requests/" + "9" * 5000), "has no pull-requests/999"),
        (("simulator", "--port", "99999"), "should be a port"),
        (("simulator", "--port", "-1"), "should be a port"),
    ],
)
async def test_it_is_told_what_is_wrong(place: Place, words: tuple[str, ...], told: str) -> None:
    await place.run("acme/website")
    done = mirror(*words, "--store", str(place.config.store), env={"MIRROR_GIT_USERNAME": "u"})
    assert done.returncode == 2
    assert told in done.stderr and "unexpected" not in done.stderr and "s3cr3t" not in done.stderr


async def test_a_password_for_git_that_is_not_utf_8_is_refused(place: Place) -> None:
    await place.run("acme/website")
    env = {"MIRROR_GIT_USERNAME": "u", "MIRROR_GIT_PASSWORD": os.fsdecode(b"s3cr3t\xff")}
    words = (
        "restore",
        "acme/website",
        "--to",
        "http://localhost:1/x.git",
        "--store",
        str(place.config.store),
    )
    done = mirror(*words, env=env)
    assert done.returncode == 2 and "is not UTF-8 text" in done.stderr and "s3cr3t" not in done.stderr


async def test_a_password_goes_over_plain_http_to_this_machine_only(place: Place) -> None:
    await place.run("acme/website")
    env = {"MIRROR_GIT_USERNAME": "u", "MIRROR_GIT_PASSWORD": "s3cr3t"}
    store = str(place.config.store)
    done = mirror(
        "restore", "acme/website", "--to", "http://git.example.org/x.git", "--store", store, env=env
    )
    assert done.returncode == 2 and "plain http" in done.stderr and "s3cr3t" not in done.stderr


def test_only_plain_digits_are_the_number_of_a_document() -> None:
    assert document_path("pull-requests/1234") == "pull-requests/12/1234.json"
    assert document_path("pull-requests/٣") == "pull-requests/٣"
