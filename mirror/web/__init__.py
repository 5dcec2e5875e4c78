"""The page: what the store holds and how its backups are, for people, over HTTP. It only reads the store."""

from mirror.web.access import Access
from mirror.web.app import make_app
from mirror.web.hooks_door import HooksDoor, open_hooks_door
from mirror.web.server import open_page, serving

__all__ = ["Access", "HooksDoor", "make_app", "open_hooks_door", "open_page", "serving"]
