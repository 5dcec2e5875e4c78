"""The pack format: reading, receiving, checking, merging and publishing packs."""
