"""Files that a store may lose: verify need not find damage in them."""

# Parts of paths: caches, files for people, and files that git derives from its packs.
REBUILDABLE = (
    "state.json", "index.json", "INDEX.md", "lock", "cache/", "tmp/", "lfs/pointers.", "looked",
    "/unfinished", ".rev", ".bitmap",
)  # fmt: skip
