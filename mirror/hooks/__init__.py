"""The webhooks that announce changes to this store: installed, compared, removed."""

from mirror.hooks.subscriptions import check, install, remove

__all__ = ["check", "install", "remove"]
