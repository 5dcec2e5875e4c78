"""The configuration: from YAML to a frozen Config, with every fault at once and its line."""

from mirror.config.load import from_environment, in_force, load, load_text, show
from mirror.config.settings import (
    BitbucketUrls,
    Brake,
    Config,
    Cron,
    Every,
    Limits,
    Parts,
    Retention,
    Schedule,
    Trigger,
    WorkspaceConfig,
)
from mirror.config.shape import duration, json_schema

__all__ = [
    "BitbucketUrls", "Brake", "Config", "Cron", "Every", "Limits", "Parts", "Retention", "Schedule",
    "Trigger", "WorkspaceConfig", "duration", "from_environment", "in_force", "json_schema", "load",
    "load_text", "show",
]  # fmt: skip
