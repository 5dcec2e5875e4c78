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
from typing import Any

from mirror import logs
from mirror.cli import parser
from mirror.cli.context import Context
from mirror.cli.edges import SystemClock, environment
from mirror.cli.terminal import streams
from mirror.cli.terminal.output import Output, plain
from mirror.errors import PRECEDENCE, MirrorError, UsageError

Command = Callable[[Context], Awaitable[int]]
# Where each command is, in `commands`. Its module is imported when it runs: a command imports what it uses.
COMMANDS: dict[str, str] = {
    "init": "init.run_init",
    "backup": "run.run_backup",
    "verify": "run.run_verify",
    "restore": "run.run_restore",
    "prune": "remove.run_prune",
    "accept-loss": "remove.run_accept_loss",
    "erase": "remove.run_erase",
    "status": "browse.run_status",
    "snapshots": "browse.run_snapshots",
    "show": "browse.run_show",
    "diff": "browse.run_diff",
    "export": "browse.run_export",
    "daemon": "service.run_daemon",
    "doctor": "service.run_doctor",
    "config": "service.run_config",
    "completion": "service.run_completion",
    "version": "service.run_version",
    "simulator": "service.run_simulator",
}


def command_of(name: str) -> Command:
    """The function of a command."""
    module, _, function = COMMANDS[name].partition(".")
    found: Command = getattr(importlib.import_module(f"mirror.cli.commands.{module}"), function)
    return found


_ANOTHERS = "run as the user who owns the store; mirror doctor names the files in it that are another's"
_DISK_HINTS = {
    errno.ENOSPC: "make room, then run it again; nothing that was stored is lost",
    errno.EDQUOT: "make room, then run it again; nothing that was stored is lost",
    errno.EROFS: "the disk is mounted read-only: see what the system's log says of it",
    errno.EACCES: _ANOTHERS,
    errno.EPERM: _ANOTHERS,
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= in the unit, ulimit -n in a shell)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk fails: see what the system's log says of it, and run mirror verify",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the process."""
    streams.prepare()
    return streams.end(_command(argv))


def _command(argv: Sequence[str] | None) -> int:
    """Run one command; returns what it came to."""
    try:
        options = parser.parse(argv)
    except SystemExit as stopped:  # argparse has printed what was asked for: help, or the version
        return int(stopped.code or 0)
    except UsageError as error:
        words = sys.argv[1:] if argv is None else argv
        return _told(Output(as_json="--json" in words, no_colour=True), 2, error.message, error.hint)
    env = environment()
    verbosity = 1 if options.verbose else -1 if options.quiet else 0
    looks = sys.stderr.isatty() and options.command not in ("daemon",) and not options.verbose
    # A person at a terminal sees progress and the result; the log would only say it twice.
    logs.configure(log_format=options.log_format, verbosity=min(verbosity, -1) if looks else verbosity)
    out = Output(as_json=options.json, no_colour="NO_COLOR" in env)
    context = Context(options, env, SystemClock(), out)
    try:
        if options.command == "demo":
            from mirror.cli.commands import demo

            return demo.run(context, main)
        return asyncio.run(_run(command_of(options.command), context))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _told(out, 130, "stopped", None)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a bare traceback
        return _failed(options, out, error)


def _failed(options: argparse.Namespace, out: Output, error: Exception) -> int:
    """Tell why a command failed. Of several errors at once, the one whose exit code goes first."""
    errors = list(_single(error))
    error = min(errors, key=_place)
    if isinstance(error, MirrorError):
        return _told(out, error.exit_code, error.message, error.hint)
    _trace(options, error)
    if isinstance(error, OSError):
        # The system refused: a full disk, permissions, a broken one. Its own words are the clearest.
        file = f"{error.filename}: " if error.filename is not None else ""
        hint = _DISK_HINTS.get(error.errno or 0, "run it again when it is mended; what was stored stays")
        return _told(out, 1, f"{file}{error.strerror or error}", hint)
    return _told(out, 1, f"unexpected {type(error).__name__}: {error}", "run it again with -v for details")


def _single(error: Exception) -> Iterator[Exception]:
    """The errors of a group, which is what several tasks at once raise."""
    if isinstance(error, ExceptionGroup):
        for one in error.exceptions:
            yield from _single(one)
    else:
        yield error


def _place(error: Exception) -> int:
    """Where the exit code of an error stands in the order of precedence."""
    return PRECEDENCE.index(error.exit_code if isinstance(error, MirrorError) else 1)


def _trace(options: argparse.Namespace, error: Exception) -> None:
    if options.verbose:
        sys.stderr.write(plain("".join(traceback.format_exception(error))))


async def _run(command: Command, context: Context) -> int:
    """Run a command; the first SIGINT, SIGTERM or SIGHUP cancels it, so that it ends in order."""
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


def _told(out: Output, code: int, message: str, hint: str | None) -> int:
    """Tell of an error: to people on stderr, to machines on stdout."""
    error: dict[str, Any] = {"message": plain(message), "hint": plain(hint) if hint else None}
    out.document({"error": error, "exit_code": code})
    sys.stderr.write(f"mirror: {error['message']}\n")
    if error["hint"]:
        sys.stderr.write(f"  {error['hint']}\n")
    return code
