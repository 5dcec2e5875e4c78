"""The `mirror` command. The only room that turns errors into exit codes."""

from mirror.cli.main import main

__all__ = ["main"]
