-- Repositories that move from one shard to another, and how far they are: wanted (the source has to send it),
-- sent (it is in the copy at copy_to, and the source has put its folder away, or is dead), arrived, failed.
CREATE TABLE moves (
    uuid text PRIMARY KEY,
    full_name text NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    state text NOT NULL CHECK (state IN ('wanted', 'sent', 'arrived', 'failed')),
    copy_to text NOT NULL,
    is_dead boolean NOT NULL DEFAULT false,
    copied timestamptz,
    problem text,
    asked timestamptz NOT NULL DEFAULT now(),
    changed timestamptz NOT NULL DEFAULT now()
);
