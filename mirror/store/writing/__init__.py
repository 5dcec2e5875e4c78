"""Writing a store: every step is durable."""
