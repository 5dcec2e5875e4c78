"""The options of what runs and checks the service, and of the simulated Bitbucket."""

from __future__ import annotations

from pathlib import Path

import shtab

from mirror.cli import arguments
from mirror.cli.arguments import Commands


def add_service(commands: Commands) -> None:
    """Declare the commands of the service and its page, of the set-up, and of trials."""
    commands.add("daemon", "run the schedule until stopped", "daemon -c /etc/mirror/config.yaml")
    web = commands.add(
        "web",
        "show the page over a store, for people; changes nothing",
        "web --store /mnt/copy   # then open http://127.0.0.1:9321/",
        "web --listen 127.0.0.1:8080",
    )
    web.add_argument(
        "--listen", metavar="ADDRESS", type=arguments.listen,
        help="IP address and port (default: web.listen of the configuration, else 127.0.0.1:9321)",
    )  # fmt: skip
    doctor = commands.add(
        "doctor",
        "check the set-up; list what cannot be backed up, and why",
        "doctor",
        "doctor --notify",
        "doctor --record ./answers",
    )
    doctor.add_argument(
        "--notify", action="store_true", help="also send a test notice to each address of notify"
    )
    doctor.add_argument(
        "--record",
        metavar="DIR",
        type=Path,
        help="save redacted responses of the endpoints in use, for tests",
    )
    _add_systemd(commands)
    _add_hooks(commands)
    config = commands.add("config", "check or show the configuration", "config check", "config schema")
    config.add_argument("action", choices=("check", "schema", "show"), help="what to do")
    completion = commands.add("completion", "print a shell's completion script", "completion bash")
    completion.add_argument("shell", choices=tuple(shtab.SUPPORTED_SHELLS), help="for which shell")
    commands.add("version", "print the version")
    simulator = commands.add("simulator", "run a simulated Bitbucket for trials", "simulator --port 9320")
    simulator.add_argument(
        "--port",
        type=arguments.port,
        default=0,
        metavar="N",
        help="the port to listen on (default: any free one)",
    )
    simulator.add_argument(
        "--data", metavar="DIR", type=Path, help="keep its data in this folder between starts"
    )
    demo = commands.add(
        "demo", "back up, lose and restore a simulated workspace, in under a minute", "demo", "demo --keep"
    )
    demo.add_argument(
        "--keep", action="store_true", help="keep the store and the simulator running for inspection"
    )


def _add_systemd(commands: Commands) -> None:
    systemd = commands.add(
        "systemd",
        "install the systemd units, and what the configuration needs beyond them",
        "systemd install --dry-run",
        "systemd install",
    )
    systemd.add_argument("action", choices=("install",), help="what to do")
    systemd.add_argument(
        "--user", metavar="NAME", type=arguments.user, default="mirror",
        help="the user as whom the services run (default: mirror)",
    )  # fmt: skip
    root = systemd.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"),
        help="install into the system below this folder, such as an image",
    )  # fmt: skip
    root.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    systemd.add_argument("--dry-run", action="store_true", help="print what would be written; write nothing")


def _add_hooks(commands: Commands) -> None:
    hooks = commands.add(
        "hooks",
        "make, check or remove the webhooks that tell the daemon of changes",
        "hooks install --dry-run",
        "hooks install",
        "hooks check",
        "hooks remove",
    )
    hooks.add_argument(
        "action", choices=("install", "check", "remove"),
        help="install: one for each workspace, as the configuration says; check: compare, and try the"
        " address; remove: only those that install made",
    )  # fmt: skip
    hooks.add_argument("--dry-run", action="store_true", help="print what would be done; change nothing")
