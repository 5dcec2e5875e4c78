"""What a store may lose without loss: verify need not find damage there."""

# Parts of paths: caches, what people read, and what git derives from its packs.
REBUILDABLE = (
    "state.json", "index.json", "INDEX.md", "lock", "cache/", "tmp/", "lfs/pointers.", "looked",
    "/unfinished", ".rev", ".bitmap",
)  # fmt: skip
