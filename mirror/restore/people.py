"""Who is who, and who is there: the people file, and the members of the workspace at the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mirror.bitbucket import endpoints
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError
from mirror.bitbucket.lists import all_of
from mirror.config.plain import read_mapping, read_text
from mirror.errors import ConfigError, Fault
from mirror.forgejo.fields import is_name
from mirror.model import is_uuid, value_at

_REMEDY = "check the path of --people"
_BEGIN = "write a line with the uuid of then and the uuid of now, each in quotes"
_UUID = "write a uuid, with its braces in quotes or without them"
_BEGIN_NAMES = "write a line with the uuid of then in quotes, and the user name of now"
_USER_NAME = "write a user name as the forge shows it, such as ann"


class Known(Mapping[str, str]):
    """Who somebody is now, by the uuid of then. It notes whom a restore asked for."""

    def __init__(self, people: Mapping[str, str]) -> None:
        self._people = people
        self._asked: set[str] = set()

    def __getitem__(self, then: str) -> str:
        now = self._people[then]
        self._asked.add(then)
        return now

    def __iter__(self) -> Iterator[str]:
        return iter(self._people)

    def __len__(self) -> int:
        return len(self._people)

    @property
    def warnings(self) -> list[str]:
        """A warning for each person whom nothing asked for: a uuid that is mistyped changes nothing."""
        return [
            f"--people has {then}, whom nothing in this restore names: check the uuid"
            for then in self._people
            if then not in self._asked
        ]


def load(path: Path) -> Known:
    """The people file at `path`: by the uuid of then, the uuid of now, in braces and lower case. Raises
    ConfigError with all faults."""
    return _load(path, _uuid, _BEGIN, "has no uuid for its value", _UUID)


def load_names(path: Path) -> Known:
    """The people file at `path` for a forge that knows people by their user names: these, by the uuid of
    then in braces and lower case. Raises ConfigError with all faults."""
    return _load(path, _name, _BEGIN_NAMES, "has no user name for its value", _USER_NAME)


def _load(path: Path, now_of: Callable[[object], str | None], begin: str, problem: str, remedy: str) -> Known:
    plain = read_mapping(read_text(path, _REMEDY), str(path), empty=begin, begin=begin)
    faults = list(plain.faults)
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for key, value in plain.data.items():
        line = plain.lines.get((key,))
        then, now = _uuid(key), now_of(value)
        if then is None:
            faults.append(Fault(line, key, "is no uuid", _UUID))
        elif now is None:
            faults.append(Fault(line, key, problem, remedy))
        elif first.setdefault(then, key) != key:
            faults.append(Fault(line, key, f"is the same person as {first[then]}", "keep one of them"))
        else:
            found[then] = now
    if faults:
        raise ConfigError(str(path), sorted(set(faults), key=lambda fault: (fault.line or 0, fault.key)))
    return Known(found)


def _name(text: object) -> str | None:
    return text if isinstance(text, str) and is_name(text) else None


def _uuid(text: object) -> str | None:
    braced = "{" + str(text).strip("{}").lower() + "}"
    return braced if isinstance(text, str) and is_uuid(braced) else None


async def members(client: Client, workspace: str) -> frozenset[str] | None:
    """The uuids of the members of a workspace, in braces and lower case; None where they cannot be read, or
    where there is none: whoever asks is one. One request for each hundred."""
    try:
        found = await all_of(client, endpoints.MEMBERS, None, workspace=workspace)
    except ApiError:
        return None
    uuids = (value_at(one, "user.uuid") for one in found)
    return frozenset(uuid.lower() for uuid in uuids if isinstance(uuid, str)) or None
