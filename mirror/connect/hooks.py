"""The keys of the hooks' door, their secrets read now."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.auth.hook_keys import HookKeys, check_secret
from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.config.settings import HooksConfig


async def hook_keys(hooks: HooksConfig, store_id: str, environment: Mapping[str, str]) -> HookKeys:
    """The keys of the store `store_id`. Raises UsageError where a secret cannot be read, is too short or too
    long."""
    secret = await _read(hooks.secret, "hooks.secret", environment)
    previous = None
    if hooks.previous_secret is not None:
        previous = await _read(hooks.previous_secret, "hooks.previous_secret", environment)
    return HookKeys(secret, previous, store_id)


async def _read(source: SecretSource, key: str, environment: Mapping[str, str]) -> Secret:
    secret = await read_secret(source, environment=environment)
    check_secret(secret, key)
    return secret
