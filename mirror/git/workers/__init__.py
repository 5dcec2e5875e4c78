"""Worker processes: jobs as plain values, a pool that runs them, processes that die with their parent."""
