"""The simulated REST API."""
