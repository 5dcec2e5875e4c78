"""A local Bitbucket Cloud, for trying, testing and rehearsing.

Made from what is known of Bitbucket itself, not from the client: it shares nothing with the rooms
that it is there to test.
"""

from mirror.simulator.app import EVERY_SCOPE, LoggedRequest
from mirror.simulator.faults import Fault
from mirror.simulator.hooks.faults import HookFaults
from mirror.simulator.server import Simulator
from mirror.simulator.switches import Switches
from mirror.simulator.world.world import World

__all__ = ["EVERY_SCOPE", "Fault", "HookFaults", "LoggedRequest", "Simulator", "Switches", "World"]
