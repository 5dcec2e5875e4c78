"""Child processes: forked workers, and processes that die with their parent."""
