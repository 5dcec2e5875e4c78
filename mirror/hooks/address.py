"""Which webhooks are ours, and what each should be."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from mirror.auth.hook_keys import FOLDER, HookKeys
from mirror.bitbucket.hooks import OF_ISSUES, OF_PULL_REQUESTS, OF_REPOSITORIES, Hook, WantedHook
from mirror.config.settings import Config, HooksConfig, Parts
from mirror.connect.hooks import hook_keys
from mirror.errors import UsageError
from mirror.http.origins import origin
from mirror.store.reading.reader import Store

# Domains of no public host (RFC 6761, RFC 6762, and ICANN's resolution of 2024 on .internal).
_PRIVATE = (".localhost", ".local", ".internal", ".test", ".invalid")


@dataclass(frozen=True)
class HookAddress:
    """The address of this store's webhooks, and the secrets that it is made of."""

    base: str
    keys: HookKeys
    description: str

    @property
    def url(self) -> str:
        """The address of the secret that is in force."""
        return self.base + self.keys.path

    @property
    def host(self) -> str:
        """Its host, for messages."""
        return origin(self.base)[1]

    def is_ours(self, hook: Hook) -> bool:
        """Whether a webhook calls this store, with whatever secret."""
        if not hook.url.startswith(self.base + FOLDER):
            return False
        # One of a secret that is forgotten is known by its description.
        return self.has_known_secret(hook) or hook.description == self.description

    def has_known_secret(self, hook: Hook) -> bool:
        """Whether the address of a webhook is that of the secret, or of the one before."""
        return self.keys.has_path(hook.url.removeprefix(self.base))

    def wanted(self, parts: Parts) -> WantedHook:
        """The webhook that a workspace should have, of which these parts are backed up."""
        events = OF_REPOSITORIES
        events |= OF_PULL_REQUESTS if parts.pull_requests else frozenset()
        events |= OF_ISSUES if parts.issues else frozenset()
        return WantedHook(self.url, self.description, events, self.keys.secret.reveal())


async def address_of(config: Config, environment: Mapping[str, str]) -> HookAddress:
    """The address that the configuration means, its secrets read now. Raises UsageError where it has no
    hooks, or no secret that can be used, and what opening the store raises."""
    hooks = config.hooks
    if hooks is None:
        raise UsageError(
            f"{config.source or 'the configuration'} has no section hooks: nothing receives webhooks",
            hint="add hooks: {listen: …, url: …, secret: {file: …}}; docs/hooks.md shows how",
        )
    with Store.open(config.store) as store:
        identifier = store.id
    keys = await hook_keys(hooks, identifier, environment)
    return HookAddress(_base(hooks), keys, f"Mirror backup, store {identifier[:8]}")


def is_public(host: str) -> bool:
    """Whether Bitbucket would take an address at this host, as far as its name tells."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return (
            host != "localhost" and "." in host and not host.endswith((".localhost", ".local", ".internal"))
        )


def _base(hooks: HooksConfig) -> str:
    return hooks.url.rstrip("/")
