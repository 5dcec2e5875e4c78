"""The secrets file: for the keys under which a plan lists secrets, where each is read from.

    website/variables/API_KEY: {file: /run/secrets/api-key}
    website/webhooks/https://ci.example/hook: {env: HOOK_SECRET}

The secrets themselves are never in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.config.plain import SOURCE_REMEDY, read_mapping, read_text, secret_source
from mirror.errors import ConfigError, Fault, UsageError
from mirror.restore.plan import steps
from mirror.restore.plan.steps import Plan, Why, stand_ins

_REMEDY = "check the path of --secrets"
_BEGIN = "write a line such as `website/variables/API_KEY: {file: api-key}`; --dry-run lists the keys"


@dataclass(frozen=True)
class SecretsFile:
    """The sources by key, and the line of each key."""

    path: str
    sources: Mapping[str, SecretSource]
    lines: Mapping[str, int | None]

    @property
    def keys(self) -> frozenset[str]:
        """The keys that the file has."""
        return frozenset(self.sources)

    def check(self, known: Collection[str]) -> None:
        """Raise ConfigError where the file has keys that no secret of a plan has."""
        found = [
            self._fault(key, "is no secret of this restore", known)
            for key in self.sources
            if key not in known
        ]
        if found:
            raise ConfigError(self.path, found)

    async def read(self, environment: Mapping[str, str]) -> dict[str, Secret]:
        """Read every secret now. Raises ConfigError with all that cannot be read."""
        found: dict[str, Secret] = {}
        faults: list[Fault] = []
        for key, source in self.sources.items():
            try:
                found[key] = await read_secret(source, environment=environment, may_have_lines=True)
            except UsageError as error:
                faults.append(
                    Fault(self.lines.get(key), key, error.message, error.hint or "correct it there")
                )
        if faults:
            raise ConfigError(self.path, faults)
        return found

    def _fault(self, key: str, problem: str, known: Collection[str]) -> Fault:
        near = difflib.get_close_matches(key, list(known), 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else "remove it; --dry-run lists the keys"
        return Fault(self.lines.get(key), _shown(key), problem, remedy)


def load(path: Path) -> SecretsFile:
    """The secrets file at `path`; relative files in it are beside it. Raises ConfigError with all faults."""
    plain = read_mapping(read_text(path, _REMEDY), str(path), empty=_BEGIN, begin=_BEGIN)
    sources: dict[str, SecretSource] = {}
    lines = {key: plain.lines.get((key,)) for key in plain.data}
    faults = list(plain.faults)
    for key, value in plain.data.items():
        try:
            sources[key] = secret_source(value, path.absolute().parent)
        except ValueError as error:
            is_plain = not isinstance(value, dict) and value is not None
            problem = "contains a secret, which must not be in this file" if is_plain else str(error)
            faults.append(Fault(lines[key], _shown(key), problem, SOURCE_REMEDY))
    if faults:
        raise ConfigError(str(path), sorted(set(faults), key=lambda fault: (fault.line or 0, fault.key)))
    return SecretsFile(str(path), sources, lines)


def secret_keys(plan: Plan) -> frozenset[str]:
    """The keys of all secrets that a plan sends, or could send if the secrets file had them."""
    sent = {one.key for one in stand_ins(plan.steps) if isinstance(one, steps.Secret)}
    return frozenset(sent | {loss.key for loss in plan.losses if loss.why is Why.SECRET})


def _shown(key: str) -> str:
    """A key in a message: without a text that may be the secret itself, put in the wrong place."""
    return key if "/" in key else ""
