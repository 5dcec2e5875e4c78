"""Metrics of a store in the format of Prometheus."""
