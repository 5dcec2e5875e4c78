"""YAML files of keys as plain values, with the line of each place and the faults of the notation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mirror.auth.secrets import SecretSource
from mirror.config.across import Place, dotted, has_secret
from mirror.config.types import SecretShape
from mirror.errors import ConfigError, Fault

SOURCE_REMEDY = "name its source: {file: …}, {env: …}, {credential: …} or {command: …}"
BYTES_MAX = 1 << 20
# So many values may a file have. A few lines of aliases of aliases can stand for billions.
VALUES_MAX = 50_000
# What the YAML library raises for a malformed value, or one with a wrong tag.
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass(frozen=True)
class Plain:
    """The values of a file, the line of each place (from 1), and faults such as repeated keys."""

    data: dict[str, Any]
    lines: dict[Place, int]
    faults: tuple[Fault, ...]


def read_text(path: Path, remedy: str) -> str:
    """The text of the file at `path`, which may have BYTES_MAX. Raises ConfigError; `remedy` is for one that
    cannot be opened."""
    try:
        with path.open("rb") as stream:
            data = stream.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(str(path), [Fault(None, "", f"cannot be read: {error.strerror}", remedy)]) from None
    if len(data) > BYTES_MAX:
        problem = f"is larger than {BYTES_MAX >> 10} KiB"
        raise ConfigError(str(path), [Fault(None, "", problem, "name the file that you mean")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(str(path), [Fault(line, "", "is not UTF-8 text", "save it as UTF-8")]) from None


def read_mapping(text: str, name: str, *, empty: str, begin: str) -> Plain:
    """The values of a mapping. Raises ConfigError where it is none: `empty` is the remedy for a file without
    content, `begin` for one of another form."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        # Names are omitted: one may be a secret in the wrong place.
        problem = str(getattr(error, "problem", None) or "cannot be parsed")
        problem = re.sub(r"(alias|anchor|handle) ['\"].*", r"\1", problem)
        raise ConfigError(name, [Fault(line, "", f"is not YAML: {problem}", "correct it there")]) from None
    if root is None:
        raise ConfigError(name, [Fault(None, "", "is empty", empty)])
    if not isinstance(root, MappingNode):
        raise ConfigError(name, [Fault(1, "", "is not a mapping of keys", begin)])
    lines: dict[Place, int] = {}
    faults: list[Fault] = []
    try:
        data = _plain(root, (), lines, faults)
    except _TooManyValues as error:
        problem = f"has more than {VALUES_MAX:,} values"
        raise ConfigError(name, [Fault(error.line, "", problem, "write less, without aliases")]) from None
    return Plain(data, lines, tuple(faults))


def secret_source(value: Any, folder: Path) -> SecretSource:
    """The source of a secret that a plain value names; a relative file is below `folder`. Raises ValueError,
    whose text does not have the value."""
    try:
        return SecretShape.model_validate(value).source(folder)
    except ValidationError:
        raise ValueError("does not name the source of the secret") from None


class _TooManyValues(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def _plain(
    node: Node, place: Place, lines: dict[Place, int], faults: list[Fault], around: tuple[Node, ...] = ()
) -> Any:
    """The plain value of a YAML node. Collects the `lines` of all places, and `faults` such as repeated keys.
    `around` are the nodes that contain it: an alias may refer to one of them."""
    lines.setdefault(place, node.start_mark.line + 1)
    if len(lines) > VALUES_MAX:
        raise _TooManyValues(node.start_mark.line + 1)
    if any(node is one for one in around):
        faults.append(
            Fault(lines[place], dotted(place), "is an alias of a value that contains it", "write it out")
        )
        return None
    around = (*around, node)
    if isinstance(node, MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                line, problem = key_node.start_mark.line + 1, "has a list or a mapping in the place of a key"
                faults.append(Fault(line, dotted(place), problem, "put the key into quotes"))
                continue
            key = str(key_node.value)
            inner = (*place, key)
            if key in result:
                line = key_node.start_mark.line + 1
                faults.append(Fault(line, dotted(inner), "is repeated", "keep one of them"))
            lines[inner] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, inner, lines, faults, around)
        return result
    if isinstance(node, SequenceNode):
        return [_plain(item, (*place, index), lines, faults, around) for index, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node) if isinstance(node, ScalarNode) else None
    except _UNREADABLE:  # their messages repeat the value
        remedy = SOURCE_REMEDY if has_secret(place) else "correct it"
        problem = "cannot be read: it is no valid date or number, or has a tag"
        faults.append(Fault(node.start_mark.line + 1, dotted(place), problem, remedy))
        return None
