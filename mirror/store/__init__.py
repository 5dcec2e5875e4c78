"""The store: the folder that holds all backups. The only room that knows paths in it.

`mirror.store.reading.reader` reads and never writes anything, not even a lock; `mirror.store.writing.writer`
writes. The format is described in docs/store-format.md.
"""
