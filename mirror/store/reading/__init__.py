"""Reading a store. Nothing here ever writes, not even a lock."""
