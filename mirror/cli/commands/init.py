"""`mirror init`. Only this and `mirror backup --init` create a store."""

from __future__ import annotations

import shlex
from pathlib import Path

from mirror.cli.context import Context
from mirror.errors import MirrorError
from mirror.model import time_text
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open


async def run_init(context: Context) -> int:
    """`mirror init`."""
    path = context.store()
    made = make_store(context, path)
    out = context.out
    with Store.open(path) as store:
        facts = {"store": str(path), "id": store.id, "created": time_text(store.created), "made": made}
        held = len(store.repositories(on_damage=lambda _: None))
    out.document(facts)
    if not made:
        out.line(
            f"There is already a store at {path}, created {facts['created']}; it has {held} repositories."
        )
        return 0
    out.line(f"Created a store at {path}.")
    for text in _next_steps(context, path):
        out.command(text)
    return 0


def make_store(context: Context, path: Path) -> bool:
    """Create a store at `path` unless there is one; returns whether it was created.

    Raises UsageError where the folder has other content, and MirrorError where it cannot be written.
    """
    before = is_store(path)
    create_or_open(path, now=context.clock.now(), command=f"mirror {context.options.command}").close()
    return not before


def is_store(path: Path) -> bool:
    """Whether there is a store at `path`, damaged or not."""
    try:
        Store.open(path).close()
    except MirrorError as error:
        return error.exit_code != 10
    return True


def _next_steps(context: Context, path: Path) -> list[str]:
    """The next steps for the user."""
    config = context.config_path()
    store = shlex.quote(str(path))
    if config is None:
        return [
            "Next, with BITBUCKET_TOKEN set to a token of your workspace:",
            f"  mirror backup --workspace NAME --store {store}",
            "or write a config.yaml that names this store (see config.example.yaml), then: mirror doctor",
        ]
    words = f"-c {shlex.quote(str(config))}"
    register: list[str] = []
    if context.options.store is not None:  # the configuration may name another store
        words += f" --store {store}"
    elif context.config().cluster is not None:
        register = [f"  mirror cluster init {words}"]
    return [
        "Next:",
        *register,
        f"  mirror doctor {words}   # what will be backed up, and what will not",
        f"  mirror backup {words}",
    ]
