"""The simulated REST API's writing side."""
