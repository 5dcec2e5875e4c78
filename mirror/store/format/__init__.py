"""The store's files as values: names, places, seals. Nothing here writes."""
