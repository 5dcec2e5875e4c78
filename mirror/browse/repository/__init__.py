"""Looking into one repository (or workspace) of a store, at any of its snapshots.

Only reads the store, without a lock: whoever calls reads again where a writer changed the folder meanwhile
(`read_consistently`).
"""
