-- What each shard lost of a workspace, by kind (refs, pull_requests, repositories), as it reported after its last
-- part of a run. The truth is each store's brake.json.
CREATE TABLE tallies (
    shard text NOT NULL REFERENCES shards (name) ON DELETE CASCADE,
    workspace_uuid text NOT NULL,
    what text NOT NULL,
    was bigint NOT NULL,
    lost bigint NOT NULL,
    vanished bigint NOT NULL,
    is_missing boolean NOT NULL,
    reported timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, workspace_uuid, what)
);
CREATE INDEX tallies_workspace ON tallies (workspace_uuid);

-- The losses over the shards together that tripped the brake of a workspace: what each shard's brake.json is to
-- have. Released: each shard's is to be released too; released_by: the person, or null where all was back.
CREATE TABLE brakes (
    id bigserial PRIMARY KEY,
    workspace_uuid text NOT NULL,
    what text NOT NULL,
    loss jsonb NOT NULL,
    shard text NOT NULL,
    tripped timestamptz NOT NULL DEFAULT now(),
    released timestamptz,
    released_by text
);
CREATE UNIQUE INDEX brakes_tripped ON brakes (workspace_uuid, what) WHERE released IS NULL;
