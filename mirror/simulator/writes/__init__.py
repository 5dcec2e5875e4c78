"""The writing routes of the simulated REST API."""
