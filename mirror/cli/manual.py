"""Generates the manual page from the parser: `python -m mirror.cli.manual > docs/mirror.1`."""

from __future__ import annotations

import argparse
import sys

from mirror import __version__
from mirror.cli import parser


def page() -> str:
    """The manual page in roff."""
    built = parser.build()
    [commands] = [one for one in built._actions if isinstance(one, argparse._SubParsersAction)]
    lines = [
        f'.TH MIRROR 1 "" "mirror {__version__}"',
        ".SH NAME",
        r"mirror \- back up and restore a whole Bitbucket Cloud workspace",
        ".SH SYNOPSIS",
        r".B mirror",
        r"\fICOMMAND\fR [\fIoptions\fR]",
        ".SH GLOBAL OPTIONS",
        "These may be given before or after the command.",
        *_options(built, skip=()),
        ".SH COMMANDS",
    ]
    names = {option for action in built._actions for option in action.option_strings}
    for name, command in commands.choices.items():
        words = " ".join(_word(action) for action in command._actions if not action.option_strings)
        lines += [f".SS {name} {_escape(words)}", _escape(command.description or "")]
        lines += _options(command, skip=names)
        lines += _actions(name, command, skip=names)
    lines += [
        ".SH EXIT STATUS",
        ".nf",
        _escape(parser.EXIT_STATUS.partition("\n")[2].rstrip()),
        ".fi",
        ".SH SEE ALSO",
        "The guides that come with the program: restore, operations, sign-in, what-is-backed-up and",
        "store-format.",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _actions(name: str, command: argparse.ArgumentParser, *, skip: set[str]) -> list[str]:
    """The actions of a command that have options of their own."""
    lines: list[str] = []
    for several in (one for one in command._actions if isinstance(one, argparse._SubParsersAction)):
        helps = {one.dest: one.help or "" for one in several._choices_actions}
        for action, parsed in several.choices.items():
            words = " ".join(_word(one) for one in parsed._actions if not one.option_strings)
            lines += [f".SS {name} {action} {_escape(words)}", _escape(helps[action])]
            lines += _options(parsed, skip=skip)
    return lines


def _word(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else None
    if name is None:
        name = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    return f"[{name} ...]" if action.nargs == "*" else name


def _options(command: argparse.ArgumentParser, *, skip: set[str] | tuple[()]) -> list[str]:
    lines = []
    for action in command._actions:
        options = [option for option in action.option_strings if option not in skip]
        if not options or not action.help:
            continue
        value = f" \\fI{_escape(_word(action))}\\fR" if action.nargs != 0 else ""
        lines += [
            ".TP",
            ", ".join(rf"\fB{_escape(option)}\fR" for option in options) + value,
            _escape(action.help),
        ]
    return lines


def _escape(text: str) -> str:
    """Text escaped for roff: no control lines, no escapes, dashes that can be copied."""
    safe = text.replace("\\", r"\e").replace("-", r"\-").replace("%%", "%")
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in safe.splitlines())


if __name__ == "__main__":
    sys.stdout.write(page())
