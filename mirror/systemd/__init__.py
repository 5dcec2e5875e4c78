"""The systemd units that come with the program, what a configuration adds, and how both are installed."""

from mirror.systemd.files import PROGRAM, Service, drop_ins, units
from mirror.systemd.install import Change, State, plan, write
from mirror.systemd.needs import Needs, hidden_from_services, needs_of

__all__ = [
    "PROGRAM", "Change", "Needs", "Service", "State", "drop_ins", "hidden_from_services", "needs_of", "plan",
    "units", "write",
]  # fmt: skip
