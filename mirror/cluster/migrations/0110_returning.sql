-- A move that the target cannot end goes back: returning (the source takes its folder out of the quarantine).
ALTER TABLE moves DROP CONSTRAINT moves_state_check;
ALTER TABLE moves ADD CONSTRAINT moves_state_check
    CHECK (state IN ('wanted', 'sent', 'returning', 'arrived', 'failed'));

-- returned: when a shard last came back after it was called dead. aside: how many folders of repositories that
-- others have lie in its quarantine. alone: how many repositories its store has that no other one has.
ALTER TABLE shards ADD COLUMN returned timestamptz,
    ADD COLUMN aside integer NOT NULL DEFAULT 0, ADD COLUMN alone integer NOT NULL DEFAULT 0;
