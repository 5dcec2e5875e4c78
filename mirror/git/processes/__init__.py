"""Processes that die with their parent, and work in forked ones."""
