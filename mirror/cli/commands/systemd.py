"""`mirror systemd install`."""

from __future__ import annotations

import grp
import pwd
import shlex
import sys
from pathlib import Path

from mirror.cli.context import Context
from mirror.errors import UsageError
from mirror.systemd import (
    PROGRAM,
    Change,
    Needs,
    Service,
    drop_ins,
    hidden_from_services,
    needs_of,
    plan,
    units,
    write,
)

_WORDS = {
    "new": "written", "changed": "updated", "unchanged": "unchanged", "packaged": "comes with the package",
    "yours": "left: it was changed by hand",
}  # fmt: skip


async def run_systemd(context: Context) -> int:
    """`mirror systemd install`."""
    options = context.options
    root = Path(options.root).absolute()
    config = Path(options.config or Service.config).absolute()
    service = Service(_program(root), options.user, _group(options.user), config)
    needs = _needs(service, root)
    changes = plan(units(service) | (drop_ins(needs) if needs is not None else {}), root)
    if not options.dry_run:
        write(changes, root)
    _report(context, service, needs, changes)
    return 3 if any(change.state == "yours" for change in changes) else 0


def _program(root: Path) -> Path:
    """The command that the units start: this one. Raises UsageError where a service cannot run it."""
    found = Path(sys.executable).parent / "mirror"
    if Path(PROGRAM).resolve() == found.resolve():
        found = Path(PROGRAM)  # a package's link
    if root != Path("/"):
        return Path("/") / found.relative_to(root) if found.is_relative_to(root) else Path(PROGRAM)
    if not found.is_file():
        raise UsageError(
            f"there is no command {found}", hint="install Mirror, then run: mirror systemd install"
        )
    for path in (found, Path(sys.executable).resolve(), Path(sys.prefix), Path(sys.base_prefix)):
        if hidden_from_services(path):
            raise UsageError(
                f"a service cannot run {path}: ProtectHome= hides home folders from it; nothing was written",
                hint="install Mirror in another place: docs/install.md shows how pipx and uv do that",
            )
    return found


def _group(user: str) -> str:
    """The primary group of a user. sysusers gives a new one a group of the same name."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def _needs(service: Service, root: Path) -> Needs | None:
    """What the configuration needs; None where there is no configuration yet. Raises ConfigError."""
    path = root / service.config.relative_to("/")
    if not path.is_file():
        return None
    from dataclasses import replace

    from mirror.config import load

    config = load(path)
    if root != Path("/") and config.store.is_relative_to(root):  # named relative to the file
        config = replace(config, store=Path("/") / config.store.relative_to(root))
    return needs_of(config, service.config.parent)


def _report(context: Context, service: Service, needs: Needs | None, changes: list[Change]) -> None:
    out, options = context.out, context.options
    is_packaged = any(one.path.name == "mirror.conf" and one.state == "packaged" for one in changes)
    steps = _next_steps(service, needs, is_packaged=is_packaged)
    warnings = list(needs.warnings) if needs is not None else []
    out.document(
        {
            "files": [{"path": str(one.path), "state": one.state} for one in changes],
            "dry_run": options.dry_run,
            "warnings": warnings,
            "next": steps,
        }
    )
    for one in changes:
        would = "would be " if options.dry_run and one.is_written else ""
        out.line(f"{one.path}: {would}{_WORDS[one.state]}")
        if options.dry_run and one.is_written:
            out.lines(f"  {line}" for line in one.text.splitlines())
    out.warnings(warnings)
    out.line("Next, as root:")
    out.lines(f"  {step}" for step in steps)
    out.line("To undo it:")
    written = [str(one.path) for one in changes if one.state in ("new", "changed", "unchanged")]
    out.line("  systemctl disable --now mirror.service mirror-backup.timer")
    if written:
        out.line(f"  rm {shlex.join(written)} && systemctl daemon-reload")
    out.line(f"  The store, the configuration and the user {service.user} stay.")


def _next_steps(service: Service, needs: Needs | None, *, is_packaged: bool) -> list[str]:
    """The commands that follow, as they can be copied."""
    config, program = shlex.quote(str(service.config)), shlex.quote(str(service.program))
    # A package made the user and the folders when it was installed.
    steps = [] if is_packaged else ["systemd-sysusers && systemd-tmpfiles --create"]
    if needs is None:
        return [
            *steps,
            f"write {config}, then run this again: it adds what the configuration needs",
        ]
    steps += [
        f"install -m 0600 SECRET {shlex.quote(str(path))}   # {{credential: {name}}}"
        for name, path in needs.credentials
        if not path.is_file()
    ]
    return [
        *steps,
        f"sudo -u {shlex.quote(service.user)} {program} init -c {config}   # once",
        "systemctl daemon-reload",
        "systemctl enable --now mirror   # the daemon; or mirror-backup.timer: single runs",
    ]
