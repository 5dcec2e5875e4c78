"""Re-reading a store, offline: is everything there that its records say, and is it whole?

It shares nothing with what wrote the store but the reader. Damage of any kind ends in a finding that
names the file, the object and the snapshots that it touches; a run that finds damage ends with 4.
"""

from mirror.verify.verify import Journal, Level, run

__all__ = ["Journal", "Level", "run"]
