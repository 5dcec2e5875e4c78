-- In the part of which list a shard found the last of what it says it lost: when that list was shared out.
ALTER TABLE tallies ADD COLUMN lost_in timestamptz;
