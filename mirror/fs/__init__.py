"""Files and folders on a local disk. `folders` only reads; `durable` is the only way to write in a store."""
