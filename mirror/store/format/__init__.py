"""The store's files as values: paths, checksums, JSON. Nothing here writes."""
