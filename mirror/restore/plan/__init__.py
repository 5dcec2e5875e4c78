"""What a restore to a forge would do, as plain values: made without a request, and printed by `--dry-run`."""
