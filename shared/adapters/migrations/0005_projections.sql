-- Saved projections: what the fold made of the log up to a position. A cache, never a truth: `log_hash` says of which
-- log it is, `shape` by which fold, `sha256` whether its bytes are still those that were written.

SET LOCAL ROLE backup_owner;

CREATE TABLE log.projections (
  shape       text COLLATE "C" NOT NULL,
  position    bigint NOT NULL CHECK (position > 0),
  recorded_at timestamptz NOT NULL,
  saved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  log_hash    bytea NOT NULL CHECK (octet_length(log_hash) = 32),
  sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
  content     bytea NOT NULL,
  PRIMARY KEY (shape, position)
);
ALTER TABLE log.projections ALTER COLUMN content SET STORAGE EXTERNAL;  -- it is compressed already

GRANT SELECT, INSERT, DELETE ON log.projections TO backup_worker, backup_api;
RESET ROLE;
