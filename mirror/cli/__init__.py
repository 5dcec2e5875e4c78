"""The `mirror` command. No other room turns errors into exit codes."""

from mirror.cli.main import main

__all__ = ["main"]
