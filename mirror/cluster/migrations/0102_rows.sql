-- A row of `mirror status` for each repository (by its folder) and workspace (by its
-- slug) of a shard, as it was when it last changed.
CREATE TABLE status_rows (
    shard text NOT NULL REFERENCES shards (name) ON DELETE CASCADE,
    kind text NOT NULL,
    place text NOT NULL,
    content jsonb NOT NULL,
    PRIMARY KEY (shard, kind, place)
);
