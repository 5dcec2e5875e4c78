"""Verifying a store offline: everything that its records name exists and is undamaged.

It shares only the reader with the code that wrote the store. Each damage is a finding that names the file,
the object and the snapshots affected; a run with damage exits with 4.
"""

from mirror.verify.verify import Journal, Level, run

__all__ = ["Journal", "Level", "run"]
