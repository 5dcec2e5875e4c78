"""Writes the bill of materials, CycloneDX 1.6, of requirements/run.lock: `python packaging/sbom.py > FILE`.

Names, versions and hashes are the lock's; licences and needs are what the installed distributions say.
The same lock gives the same bytes.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def bill() -> dict[str, Any]:
    """The bill of materials."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(sorted(read_lock((ROOT / "requirements/run.lock").read_text()).items()))
    references = {name: _purl(name, version) for name, (version, _) in locked.items()}
    top = _purl("mirror", project["version"])
    # The lock, the image and the Debian package contain every extra.
    needed = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    extras = _extras(needed, locked)
    components = [_component(name, *locked[name]) for name in locked]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([top, components]))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": top, "name": "mirror", "version": project["version"],
                "purl": top, "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": top, "dependsOn": _of(needed, [""], references)},
            *(
                {"ref": references[name], "dependsOn": _of(_needs(name), extras[name], references)}
                for name in references
            ),
        ],
    }  # fmt: skip


def read_lock(text: str) -> dict[str, tuple[str, list[str]]]:
    """The version and the SHA-256 sums of each distribution in a lock, by its name."""
    found: dict[str, tuple[str, list[str]]] = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()  # type: ignore[union-attr]
        found[canonicalize_name(name)] = (version, sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)))
    return found


def _component(name: str, version: str, sums: list[str]) -> dict[str, Any]:
    made = {
        "type": "library", "bom-ref": _purl(name, version), "name": name, "version": version,
        "purl": _purl(name, version),
        "hashes": [{"alg": "SHA-256", "content": one} for one in sums],
    }  # fmt: skip
    licence = _licence(name)
    return made | ({"licenses": [licence]} if licence else {})


def _licence(name: str) -> dict[str, Any] | None:
    """What the installed distribution says; None where it is for other systems only, or says nothing."""
    try:
        told = distribution(name).metadata
    except PackageNotFoundError:
        return None
    if told["License-Expression"]:
        return {"expression": told["License-Expression"]}
    classifiers = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if "License ::" in one]
    words = classifiers[0] if classifiers else (told["License"] or "").partition("\n")[0]
    words = words or _first_line(name)
    return {"license": {"name": words}} if words else None


def _first_line(name: str) -> str:
    """How the licence's own text begins; empty where the distribution has none."""
    files = [one for one in distribution(name).files or [] if one.name.upper().startswith("LICEN")]
    return files[0].read_text().strip().partition("\n")[0] if files else ""


def _needs(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def _extras(needed: list[str], locked: Iterable[str]) -> dict[str, set[str]]:
    """By distribution, its extras that are asked for."""
    found = {name: {""} for name in locked}
    for text in (*needed, *itertools.chain.from_iterable(map(_needs, found))):
        one = Requirement(text)
        found.setdefault(canonicalize_name(one.name), {""}).update(one.extras)
    return found


def _of(requirements: list[str], extras: Iterable[str], references: dict[str, str]) -> list[str]:
    """The references of those requirements that the lock has and this system needs, with these extras."""
    found = set()
    for text in requirements:
        one = Requirement(text)
        wanted = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and canonicalize_name(one.name) in references:
            found.add(references[canonicalize_name(one.name)])
    return sorted(found)


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2)
    sys.stdout.write("\n")
