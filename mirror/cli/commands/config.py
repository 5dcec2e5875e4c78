"""`mirror config`."""

from __future__ import annotations

import json

from mirror.cli.context import Context
from mirror.errors import ConfigError


async def run_config(context: Context) -> int:
    """`mirror config check|schema|show`."""
    from mirror import config

    action = context.options.action
    if action == "schema":
        context.out.raw(json.dumps(config.json_schema(), indent=2))
        return 0
    loaded = context.config()
    if action == "show":
        context.out.document({"source": str(loaded.source), "config": config.in_force(loaded)})
        if not context.out.as_json:
            context.out.raw(config.show(loaded))
        return 0
    if loaded.notify is not None:
        from mirror.notify.delivery import check_installed

        check_installed()
    near = config.expiring(loaded, context.clock.now().date())
    if expired := [fault for left, fault in near if left < 0]:
        raise ConfigError(str(loaded.source or "the configuration"), expired)
    names = [one.workspace or "every workspace of the credential" for one in loaded.workspaces]
    warnings = context.expiring(loaded)
    context.out.document(
        {
            "source": str(loaded.source),
            "store": str(loaded.store),
            "workspaces": names,
            "warnings": warnings,
        }
    )
    context.out.warnings(warnings)
    context.out.line(f"{loaded.source}: no faults. Backs up {', '.join(names)} to {loaded.store}.")
    return 0
