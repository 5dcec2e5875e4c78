"""Writing a store. Every step is durable."""
