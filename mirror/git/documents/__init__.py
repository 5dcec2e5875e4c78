"""Bare repositories used as sets of documents with history."""
