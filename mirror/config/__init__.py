"""The configuration: from YAML to a frozen Config, or to all faults at once, each with its line."""

from mirror.config.expiry import WARN_DAYS, expiring
from mirror.config.load import from_environment, in_force, load, load_text, show
from mirror.config.settings import (
    After,
    BitbucketUrls,
    Brake,
    Config,
    Cron,
    Every,
    Expiry,
    HooksConfig,
    Limits,
    Parts,
    Retention,
    Schedule,
    Trigger,
    WebConfig,
    WorkspaceConfig,
)
from mirror.config.shape import json_schema
from mirror.config.values import Address, IpNetwork, address, duration

__all__ = [
    "WARN_DAYS", "Address", "After", "BitbucketUrls", "Brake", "Config", "Cron", "Every", "Expiry",
    "HooksConfig", "IpNetwork", "Limits", "Parts", "Retention", "Schedule", "Trigger", "WebConfig",
    "WorkspaceConfig", "address", "duration", "expiring", "from_environment", "in_force", "json_schema",
    "load", "load_text", "show",
]  # fmt: skip
