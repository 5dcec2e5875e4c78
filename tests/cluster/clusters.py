"""A database with the cluster's schema, for tests: made once for each session, and copied."""

from __future__ import annotations

import os

from mirror.auth.secrets import SecretSource
from mirror.cluster.database import Database


def database_at(url: str, label: str = "test") -> Database:
    """The database at a URL."""
    return Database(SecretSource("env", "DATABASE"), {**os.environ, "DATABASE": url}, label=label)
