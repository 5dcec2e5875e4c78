"""Git LFS: pointers, the batch API, transfers."""
