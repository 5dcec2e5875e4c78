"""What a configuration needs of a service that may write to /var/lib/mirror only and sees no home folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.auth.secrets import SecretSource
from mirror.config import Config

STATE = Path("/var/lib/mirror")
# What ProtectHome= hides.
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))


@dataclass(frozen=True)
class Needs:
    """Folders that must be mounted, folders that the service writes to beyond its own, systemd credentials
    with the file of each, and what no drop-in can provide."""

    mounts: tuple[Path, ...]
    writable: tuple[Path, ...]
    credentials: tuple[tuple[str, Path], ...]
    warnings: tuple[str, ...]


def needs_of(config: Config, folder: Path) -> Needs:
    """What `config` needs. The file of the credential NAME is `folder`/NAME."""
    textfile = config.web.textfile if config.web is not None else None
    stores = [] if config.store.is_relative_to(STATE) else [config.store]
    writable = [*stores, *([textfile.parent] if textfile is not None else [])]
    sources = dict.fromkeys(secret_sources(config))
    names = [str(one.value) for one in sources if one.kind == "credential"]
    warnings = [
        f"the service does not see {path}: ProtectHome= hides it; move it, or remove that line with "
        f"systemctl edit"
        for path in (*writable, *(Path(str(one.value)) for one in sources if one.kind == "file"))
        if hidden_from_services(path)
    ]
    warnings += [
        f"the service has no environment variable {one.value}: use {{credential: …}} or {{file: …}} instead"
        for one in sources
        if one.kind == "env"
    ]
    files = tuple((name, folder / name) for name in names)
    return Needs(tuple(stores), tuple(writable), files, tuple(warnings))


def hidden_from_services(path: Path) -> bool:
    """Whether ProtectHome=, which the units set, hides `path`."""
    return any(path.is_relative_to(hidden) for hidden in _HIDDEN)


def secret_sources(part: object) -> Iterator[SecretSource]:
    """The sources of every secret in a configuration or a part of it."""
    if isinstance(part, SecretSource):
        yield part
    elif isinstance(part, tuple | list):
        for one in part:
            yield from secret_sources(one)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from secret_sources(getattr(part, field.name))
