"""A store's twin in object storage: sent, read, checked, pruned."""
