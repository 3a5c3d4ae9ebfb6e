-- Users, sessions, tokens and set-up links. They are not in the event log, because it can never forget; of every
-- secret there is only a hash. What was done with them is told to the log through access.untold.

CREATE SCHEMA access AUTHORIZATION backup_owner;
SET LOCAL ROLE backup_owner;
REVOKE ALL ON SCHEMA access FROM PUBLIC;
GRANT USAGE ON SCHEMA access TO backup_worker, backup_api;

CREATE TABLE access.users (
  name          text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  role          text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
  hosts         text[] CHECK (role <> 'admin' OR hosts IS NULL),  -- NULL: all of them
  password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
  added_at      timestamptz NOT NULL
);

CREATE TABLE access.sessions (
  hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  user_name  text COLLATE "C" NOT NULL REFERENCES access.users ON DELETE CASCADE,
  started_at timestamptz NOT NULL,
  seen_at    timestamptz NOT NULL
);
CREATE INDEX ON access.sessions (user_name);

CREATE TABLE access.tokens (
  hash      bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  user_name text COLLATE "C" NOT NULL REFERENCES access.users ON DELETE CASCADE,
  name      text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  made_at   timestamptz NOT NULL,
  UNIQUE (user_name, name)
);

CREATE TABLE access.setup_links (
  hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  expires_at timestamptz NOT NULL
);

-- Events that were decided together with a change and are on their way into the log.
CREATE TABLE access.untold (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id     uuid NOT NULL UNIQUE,
  event  text NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA access TO backup_worker, backup_api;
RESET ROLE;
