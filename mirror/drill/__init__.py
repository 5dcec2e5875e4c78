"""Rehearsing a restore, and comparing a real one with its original.

A drill restores into an empty Bitbucket that is simulated on this machine, backs that up and compares both.
`check` compares a backup with what a real workspace has now.
"""

from mirror.drill.drill import Drilled, run

__all__ = ["Drilled", "run"]
