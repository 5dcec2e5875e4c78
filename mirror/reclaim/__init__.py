"""What prune and erase remove from the store, crash-proof."""
