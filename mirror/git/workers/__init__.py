"""Worker processes: jobs as plain values, and the pool that runs them."""
