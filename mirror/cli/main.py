"""From the command line to an exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import importlib
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mirror import logs
from mirror.cli import parser
from mirror.cli.context import Context
from mirror.cli.system import SystemClock, environment
from mirror.cli.terminal import streams
from mirror.cli.terminal.output import Output, plain
from mirror.errors import PRECEDENCE, MirrorError, UsageError

Command = Callable[[Context], Awaitable[int]]
# The function of each command in `commands`. Its module is imported only when the command runs.
COMMANDS: dict[str, str] = {
    "init": "init.run_init",
    "backup": "backup.run_backup",
    "verify": "verify.run_verify",
    "drill": "drill.run_drill",
    "restore": "restore.run_restore",
    "prune": "prune.run_prune",
    "accept-loss": "prune.run_accept_loss",
    "erase": "prune.run_erase",
    "copy": "copy.run_copy",
    "status": "status.run_status",
    "snapshots": "browse.run_snapshots",
    "show": "browse.run_show",
    "find": "find.run_find",
    "diff": "browse.run_diff",
    "export": "browse.run_export",
    "web": "web.run_web",
    "daemon": "daemon.run_daemon",
    "hooks": "hooks.run_hooks",
    "cluster": "cluster.run_cluster",
    "doctor": "doctor.run_doctor",
    "config": "config.run_config",
    "completion": "program.run_completion",
    "version": "program.run_version",
    "simulator": "simulator.run_simulator",
    "systemd": "systemd.run_systemd",
}


def command_of(name: str) -> Command:
    """The function of a command."""
    module, _, function = COMMANDS[name].partition(".")
    found: Command = getattr(importlib.import_module(f"mirror.cli.commands.{module}"), function)
    return found


_OTHER_OWNER = "run as the user who owns the store; mirror doctor lists the files of other users in it"
_DISK_HINTS = {
    errno.ENOSPC: "make room, then run it again; nothing that was stored is lost",
    errno.EDQUOT: "make room, then run it again; nothing that was stored is lost",
    errno.EROFS: "the disk is mounted read-only: see the system's log for the cause",
    errno.EACCES: _OTHER_OWNER,
    errno.EPERM: _OTHER_OWNER,
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= in the unit, ulimit -n in a shell)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk fails: see the system's log, and run mirror verify",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the process."""
    streams.prepare()
    return streams.end(_command(argv))


def _command(argv: Sequence[str] | None) -> int:
    """Run one command; returns its exit code."""
    try:
        options = parser.parse(argv)
    except SystemExit as stopped:  # argparse has printed the help or the version
        return int(stopped.code or 0)
    except UsageError as error:
        words = sys.argv[1:] if argv is None else argv
        return _report_error(Output(as_json="--json" in words, no_colour=True), 2, error.message, error.hint)
    env = environment()
    verbosity = 1 if options.verbose else -1 if options.quiet else 0
    is_watched = sys.stderr.isatty() and options.command not in ("daemon",) and not options.verbose
    # A person at a terminal sees progress and the result, so the log shows warnings only.
    logs.configure(log_format=options.log_format, verbosity=min(verbosity, -1) if is_watched else verbosity)
    out = Output(as_json=options.json, no_colour="NO_COLOR" in env)
    context = Context(options, env, SystemClock(), out)
    try:
        if options.command == "demo":
            from mirror.cli.commands import demo

            return demo.run(context, main)
        return asyncio.run(_run(_opening(command_of(options.command), context), context))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _report_error(out, 130, "stopped", None)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a bare traceback
        return _failed(options, out, error)


def _failed(options: argparse.Namespace, out: Output, error: Exception) -> int:
    """Report why a command failed: of several errors, the one whose exit code takes precedence."""
    error = min(_flattened(error), key=_precedence)
    if isinstance(error, MirrorError):
        return _report_error(out, error.exit_code, error.message, error.hint)
    _trace(options, error)
    if isinstance(error, OSError):
        # A full disk, permissions, a broken disk: the system's own message is the clearest.
        file = f"{error.filename}: " if error.filename is not None else ""
        hint = _DISK_HINTS.get(error.errno or 0, "repair that and run it again; what was stored is kept")
        return _report_error(out, 1, f"{file}{error.strerror or error}", hint)
    return _report_error(
        out, 1, f"unexpected {type(error).__name__}: {error}", "run it again with -v for details"
    )


def _flattened(error: Exception) -> Iterator[Exception]:
    """The errors of a group, which concurrent tasks raise."""
    if isinstance(error, ExceptionGroup):
        for one in error.exceptions:
            yield from _flattened(one)
    else:
        yield error


def _precedence(error: Exception) -> int:
    """The position of an error's exit code in the order of precedence."""
    return PRECEDENCE.index(error.exit_code if isinstance(error, MirrorError) else 1)


def _trace(options: argparse.Namespace, error: Exception) -> None:
    if options.verbose:
        sys.stderr.write(plain("".join(traceback.format_exception(error))))


def _opening(command: Command, context: Context) -> Command:
    """The command; where --store is the address of a copy, on a store that is made of it first."""
    if context.options.store is None or isinstance(context.options.store, Path):
        return command
    from mirror.cli.copied import on_copy

    return lambda inner: on_copy(inner, command)


async def _run(command: Command, context: Context) -> int:
    """Run a command; the first SIGINT, SIGTERM or SIGHUP cancels it, so that it can clean up."""
    if context.options.command in ("daemon", "simulator"):
        return await command(context)
    task = asyncio.ensure_future(command(context))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # nohup, or a shell's background job
            continue
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, task.cancel)
    return await task


def _report_error(out: Output, code: int, message: str, hint: str | None) -> int:
    """Print an error: for people on stderr, as JSON on stdout."""
    error: dict[str, Any] = {"message": plain(message), "hint": plain(hint) if hint else None}
    out.document({"error": error, "exit_code": code})
    sys.stderr.write(f"mirror: {error['message']}\n")
    if error["hint"]:
        sys.stderr.write(f"  {error['hint']}\n")
    return code
