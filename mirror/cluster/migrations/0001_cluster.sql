-- The cluster itself: one row. Identities are hashed with the salt before they get here.
CREATE TABLE cluster (
    number integer PRIMARY KEY DEFAULT 1 CHECK (number = 1),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    salt bytea NOT NULL DEFAULT decode(
        replace(gen_random_uuid()::text, '-', '') || replace(gen_random_uuid()::text, '-', ''), 'hex'
    ),
    created timestamptz NOT NULL DEFAULT now()
);
INSERT INTO cluster DEFAULT VALUES;

-- A shard is one host's store. seen: when its daemon last reported. skew: by how many seconds the host's clock
-- is ahead of this one. interval_seconds: the longest interval of its scheduled backups; null: it has none.
-- copy_to: where the first copy of its store goes, for others to read. retired: since when it takes no part.
-- worker: its row in procrastinate_workers.
CREATE TABLE shards (
    name text PRIMARY KEY,
    weight integer NOT NULL CHECK (weight > 0),
    store_id text NOT NULL UNIQUE,
    host text NOT NULL,
    program text NOT NULL,
    copy_to text,
    copies text[] NOT NULL DEFAULT '{}',
    interval_seconds double precision,
    skew double precision,
    registered timestamptz NOT NULL DEFAULT now(),
    started timestamptz NOT NULL DEFAULT now(),
    seen timestamptz NOT NULL DEFAULT now(),
    retired timestamptz,
    worker bigint
);

-- Which shard a repository belongs to; null: it is on its way from one to another. uuids in lower case.
CREATE TABLE repositories (
    uuid text PRIMARY KEY,
    workspace_uuid text NOT NULL,
    full_name text NOT NULL,
    shard text REFERENCES shards (name),
    placed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX repositories_shard ON repositories (shard);
CREATE INDEX repositories_workspace ON repositories (workspace_uuid);

-- Which shard backs up what is a workspace's own: its members, projects, snippets.
CREATE TABLE workspaces (
    uuid text PRIMARY KEY,
    shard text NOT NULL REFERENCES shards (name)
);

-- What each shard's store has, as its daemon reported. One uuid in two shards is a finding.
CREATE TABLE holdings (
    shard text NOT NULL REFERENCES shards (name) ON DELETE CASCADE,
    uuid text NOT NULL,
    workspace_uuid text NOT NULL,
    full_name text NOT NULL,
    PRIMARY KEY (shard, uuid)
);
CREATE INDEX holdings_uuid ON holdings (uuid);

-- The schedule's discoveries: for each job of the schedule, when the last one was due.
CREATE TABLE discoveries (
    job text PRIMARY KEY,
    due timestamptz NOT NULL
);

-- Repositories that hooks announced and no store holds: when a discovery last looked for each, and whether it
-- found that they are none of ours.
CREATE TABLE strangers (
    uuid text PRIMARY KEY,
    sought timestamptz NOT NULL DEFAULT now(),
    is_stranger boolean NOT NULL DEFAULT false
);

-- What a discovery gave a shard to do: the list, as compressed JSON, and how the shard's run ended. One for
-- each job of the schedule and shard runs, and one waits.
CREATE TABLE parts (
    id bigserial PRIMARY KEY,
    job text NOT NULL,
    shard text NOT NULL REFERENCES shards (name) ON DELETE CASCADE,
    listed bytea,
    size integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now(),
    began timestamptz,
    ended timestamptz,
    run text,
    exit_code integer,
    counts jsonb
);
CREATE INDEX parts_shard ON parts (shard, job, id);

-- The request budget: one row for each identity (a hash) and group of resources.
CREATE TABLE budgets (
    identity text NOT NULL,
    resources text NOT NULL,
    requests_limit integer,
    inferred_until timestamptz,
    blocked_until timestamptz,
    PRIMARY KEY (identity, resources)
);

-- Requests that were lent in the last hour, and those of others that headers told of.
CREATE TABLE lent (
    id bigserial PRIMARY KEY,
    identity text NOT NULL,
    resources text NOT NULL,
    shard text,
    count integer NOT NULL CHECK (count > 0),
    at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (identity, resources) REFERENCES budgets ON DELETE CASCADE
);
CREATE INDEX lent_at ON lent (identity, resources, at);
