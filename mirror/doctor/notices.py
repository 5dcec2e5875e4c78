"""Checks of notices and pings."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from mirror.config.settings import Config
from mirror.connect.notices import check_notices, send_test
from mirror.doctor.checks import Check, failed
from mirror.errors import MirrorError


async def notice_checks(config: Config, environment: Mapping[str, str], *, test: bool) -> list[Check]:
    """Whether notices and pings can be sent. With `test`, each address of `notify` gets a test notice."""
    if config.notify is None and config.ping is None:
        remedy = "add notify or ping to the configuration: docs/monitoring.md"
        return [Check("notices", "warn", "a run that fails sends neither a notice nor a ping", remedy)]
    try:
        await check_notices(config, environment)
    except MirrorError as error:
        return [failed("notices", error)]
    ping = "a monitoring service is pinged" if config.ping is not None else "no monitoring service is pinged"
    if config.notify is None:
        return [Check("notices", "ok", ping)]
    events = ", ".join(config.notify.on)
    text = f"{len(config.notify.urls)} addresses get notices of {events}; {ping}"
    checks = [Check("notices", "ok", text)]
    if test:
        for index, problem in enumerate(await send_test(config, environment, socket.gethostname())):
            name, remedy = f"notify.urls[{index}]", "check the address: docs/monitoring.md"
            sent = Check(name, "ok", "a test notice was sent")
            checks.append(sent if problem is None else Check(name, "fail", problem, remedy))
    return checks
