"""Of a large copy, what is read for one repository does not grow with the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mirror.copy.lending import lent
from mirror.copy.reading import Copy
from mirror.model import NoProgress, Selector, loads
from mirror.store.format.seal import sealed
from mirror.store.reading.reader import Store
from tests.bucket.servers import UPLOADER, ObjectServer
from tests.copy.conftest import Stores
from tests.copy.copies import Copies
from tests.copy.remote import PREFIX, objects_of


@pytest.fixture
def copies(stores: Stores, seaweed: ObjectServer, tmp_path: Path) -> Copies:
    shutil.copytree(stores.now, tmp_path / "store")
    return Copies(tmp_path / "store", seaweed, seaweed.make_bucket(), UPLOADER)


async def read(copies: Copies, text: str) -> tuple[set[str], list[str]]:
    """The folders that are read for a selector, and the repositories of the store that is lent."""
    selectors = [Selector.parse(text)]
    async with copies.server.open(copies.bucket) as opened:
        copy = await Copy.open(opened, copies.coding.identities, selectors=selectors)
        assert copy.notes == []
        found = {one.full_name for one in copy.folders.values() if one.full_name}
        environment = {**os.environ, "TMPDIR": str(copies.store.parent)}
        async with lent(copy, selectors, environment=environment, progress=NoProgress()) as store:
            with Store.open(store) as lending:
                return found, [one.full_name for one in lending.repositories()]


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_only_what_is_selected_is_read(copies: Copies, tmp_path: Path, is_encrypted: bool) -> None:
    if is_encrypted:
        copies.encrypt(tmp_path)
    assert (await copies.make()).exit_code == 0
    assert await read(copies, "acme/website") == ({"acme", "acme/website"}, ["acme/website"])
    everything, _ = await read(copies, "acme")
    with Store.open(copies.store) as store:
        former = [one.full_name for one in store.repositories()]
    assert everything == {"acme", *former}
    # A copy of before names were written, and an encrypted one whose store.json does not say where they are.
    key = f"{PREFIX}/store.json"
    about: dict[str, Any] = loads(objects_of(copies.server, copies.bucket)["store.json"])
    own = about.pop("own")
    client = copies.server.client()
    client.put_object(Bucket=copies.bucket, Key=key, Body=sealed(about))
    found, lending = await read(copies, "acme/website")
    assert lending == ["acme/website"] and (found == everything) == is_encrypted
    assert (await copies.make()).exit_code == 0
    assert loads(objects_of(copies.server, copies.bucket)["store.json"])["own"] == own
    assert (await read(copies, "acme/website"))[0] == {"acme", "acme/website"}


async def test_names_that_are_not_those_of_the_folders_are_not_believed(copies: Copies) -> None:
    await copies.make()
    [newest] = copies.there().manifests("store")
    data = objects_of(copies.server, copies.bucket)[f"manifests/store/{1:012}.json"]
    names = {place: list(one) for place, one in newest.facts["names"].items()}
    website = next(place for place in names if "website~" in place)
    other = next(place for place in names if place.count("/") == 3 and place != website)
    names[website], names[other] = names[other], names[website]
    value: dict[str, Any] = loads(data)
    value["facts"]["names"] = names
    client = copies.server.client()
    client.put_object(Bucket=copies.bucket, Key=f"{PREFIX}/manifests/store/{1:012}.json", Body=sealed(value))
    found, lending = await read(copies, "acme/website")
    assert lending == ["acme/website"] and len(found) > 2
