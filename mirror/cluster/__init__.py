"""A cluster of hosts: the queue, the placement, the request budget and the shards, in PostgreSQL.

Only this room imports procrastinate and psycopg. Importing it without them raises UsageError, so that other
rooms import it inside functions, where the configuration has a cluster.
"""

import importlib.util

from mirror.errors import missing_extra

for _name in ("procrastinate", "psycopg", "psycopg_pool"):
    if importlib.util.find_spec(_name) is None:
        raise missing_extra("cluster", f"a cluster needs {_name}")
