"""The context of a command: its options, the configuration, the clock and the output."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.cli.system import SystemClock
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import TerminalProgress, Work
from mirror.errors import ConfigError, UsageError
from mirror.model import Selector

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.copy.lending import Lending
    from mirror.copy.reading import Copy
    from mirror.http.network import Network

PLACES = ("config.yaml", "/etc/mirror/config.yaml")


@dataclass(frozen=True)
class Copied:
    """The copy of which a command reads what it needs, in a temporary store. `lending` brings each folder to
    it when it is verified."""

    copy: Copy
    lending: Lending | None = None


@dataclass(frozen=True)
class Context:
    """The options of this call, the environment, the clock and the output.

    `copied` is there where --store names a copy; `store` is a temporary one then.
    """

    options: argparse.Namespace
    environment: Mapping[str, str]
    clock: SystemClock
    out: Output
    copied: Copied | None = None

    def store_words(self) -> list[str]:
        """The option --store as it was given, for commands that are printed to be typed; else nothing."""
        if self.options.store is None:
            return []
        return ["--store", str(self.copied.copy.bucket.address if self.copied else self.options.store)]

    def config_path(self) -> Path | None:
        """The configuration file: -c, MIRROR_CONFIG or the first of PLACES; None where there is none."""
        if self.options.config is not None:
            return Path(self.options.config)
        named = self.environment.get("MIRROR_CONFIG")
        if named:
            return Path(named)
        return next((Path(place) for place in PLACES if Path(place).is_file()), None)

    def config(self) -> Config:
        """The configuration, with `--store` applied. Raises ConfigError and UsageError."""
        from mirror.config import from_environment, load

        path = self.config_path()
        named = list(getattr(self.options, "workspace", []))
        if path is not None and not named:
            config = load(path)
            return replace(config, store=self.options.store.absolute()) if self.options.store else config
        if self.options.store is None:
            raise UsageError(
                "there is no configuration file" if path is None else "--workspace needs --store",
                hint="give one with -c, or name --workspace and --store, with BITBUCKET_TOKEN set",
            )
        return from_environment(self.environment, named, self.options.store.absolute())

    def config_for(self, workspace: str) -> Config:
        """The configuration; where there is no file, one for this workspace and the credential in
        BITBUCKET_TOKEN. Raises ConfigError and UsageError."""
        from mirror.config import from_environment

        if self.config_path() is not None:
            return self.config()
        return from_environment(self.environment, [workspace], self.store())

    async def network(self) -> Network:
        """The network settings: the configuration's where there is one, else the environment's. Raises
        UsageError."""
        from mirror.connect import network_of
        from mirror.http.network import from_environment

        if self.config_path() is None:
            return from_environment(self.environment)
        return await network_of(self.config(), self.environment)

    def expiring(self, config: Config | None) -> list[str]:
        """Warnings about tokens that expire within 30 days or have expired."""
        if config is None:
            return []
        from mirror.config import expiring

        name = str(config.source or "the configuration")
        return [fault.text(name) for _, fault in expiring(config, self.clock.now().date())]

    def config_if_any(self) -> Config | None:
        """The configuration; None where there is no file or it has faults."""
        from mirror.config import load

        path = self.config_path()
        try:
            return load(path) if path is not None else None
        except ConfigError:
            return None

    def config_in_file(self) -> Config | None:
        """The configuration; None where there is no file. Raises ConfigError where it has faults."""
        from mirror.config import load

        path = self.config_path()
        return load(path) if path is not None else None

    def store(self) -> Path:
        """The store to read: `--store`, else the configured one. Reads no secrets. Raises ConfigError and
        UsageError."""
        if self.options.store is not None:
            return Path(self.options.store).absolute()
        path = self.config_path()
        if path is None:
            raise UsageError(
                "there is no configuration file that names the store",
                hint="name the store with --store DIR, or a configuration with -c",
            )
        from mirror.config import load

        return load(path).store

    def selectors(self) -> list[Selector]:
        """The selectors of this call."""
        return [Selector.parse(text) for text in self.options.selectors]

    def selector(self) -> Selector:
        """The one selector of this call."""
        return Selector.parse(self.options.selector)

    def progress(self, work: Work) -> TerminalProgress:
        """The progress of a command. It is drawn on a terminal, unless --quiet or --json was given; log lines
        say it elsewhere."""
        return TerminalProgress(
            work,
            clock=self.clock.monotonic,
            is_drawn=not self.options.quiet and not self.options.json,
            no_colour="NO_COLOR" in self.environment,
        )
