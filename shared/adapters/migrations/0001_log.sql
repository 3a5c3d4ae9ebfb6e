-- The event log: one append-only table, written through one function, chained by hashes.
-- Why it is like this and what was measured: ARCHITECTURE.md, decisions on the log.

CREATE SCHEMA log AUTHORIZATION backup_owner;
SET LOCAL ROLE backup_owner;
REVOKE ALL ON SCHEMA log FROM PUBLIC;
GRANT USAGE ON SCHEMA log TO backup_worker, backup_api, backup_anon;

CREATE TABLE log.events (
  position    bigint NOT NULL PRIMARY KEY CHECK (position > 0),
  version     bigint NOT NULL CHECK (version > 0),
  recorded_at timestamptz NOT NULL,
  id          uuid NOT NULL UNIQUE,
  stream      text COLLATE "C" NOT NULL CHECK (stream ~ '^[a-z0-9][a-z0-9_-]*$'),
  type        text COLLATE "C" NOT NULL CHECK (type ~ '^[A-Za-z][A-Za-z0-9]*$'),
  data        json NOT NULL,  -- not jsonb: the exact bytes are what is hashed
  meta        json NOT NULL DEFAULT '{}',
  hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
  UNIQUE (stream, version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, fillfactor = 100);

-- Never holds a row: only its lock is used. An advisory lock could be taken by any role, and locking the
-- events themselves stalls while they are vacuumed.
CREATE TABLE log.gate ();

-- The bytes that are hashed for one event. Shared by append and by the audit, so that they cannot drift apart.
CREATE FUNCTION log.canonical(_position bigint, _stream text, _version bigint, _id uuid, _type text,
                              _recorded_us bigint, _data text, _meta text)
RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT convert_to(_position || E'\n' || _stream || E'\n' || _version || E'\n' || _id || E'\n' || _type || E'\n'
                    || _recorded_us || E'\n' || octet_length(_data) || E'\n' || _data || _meta, 'UTF8')
$$;

CREATE FUNCTION log.microseconds(_at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (extract(epoch FROM _at) * 1000000)::bigint
$$;

-- Appends events to one stream. _expected is the version the writer has seen, or NULL for a fact that holds
-- whatever else happened. Sending the same ids again returns the first result. SQLSTATE 40001: the stream has
-- moved on (DETAIL is its version). SQLSTATE 23505: an id is already recorded for something else.
CREATE FUNCTION log.append(_stream text, _expected bigint, _ids uuid[], _types text[], _datas text[], _metas text[] DEFAULT NULL)
RETURNS TABLE (first_position bigint, last_version bigint, duplicate boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  n int := cardinality(_ids);
  known int;
  v bigint;
  p bigint;
  h bytea;
  hashes bytea[] := '{}';
  at timestamptz;
  last_at timestamptz;
  us bigint;
BEGIN
  IF n IS NULL OR n = 0 OR n <> cardinality(_types) OR n <> cardinality(_datas)
     OR (_metas IS NOT NULL AND n <> cardinality(_metas)) THEN
    RAISE EXCEPTION 'append: arrays differ in length' USING ERRCODE = '22023';
  END IF;
  LOCK TABLE log.gate IN EXCLUSIVE MODE;  -- one writer at a time; every later statement sees all earlier commits

  SELECT e.position INTO p FROM log.events e WHERE e.id = _ids[1];  -- one probe tells a resend on the normal path
  IF FOUND THEN
    SELECT count(*), max(e.version) INTO known, v
      FROM unnest(_ids) u(id) JOIN log.events e ON e.id = u.id AND e.stream = _stream;
    IF known = n THEN
      RETURN QUERY SELECT p, v, true;
      RETURN;
    END IF;
    IF known > 0 AND _expected IS NULL THEN  -- a longer batch after a lost answer: append only the rest
      RETURN QUERY SELECT p, r.last_version, false
        FROM log.append(_stream, NULL, _ids[known+1:], _types[known+1:], _datas[known+1:], _metas[known+1:]) r;
      RETURN;
    END IF;
    RAISE EXCEPTION 'append: event id % is already recorded elsewhere', _ids[1] USING ERRCODE = '23505';
  END IF;

  SELECT coalesce(max(e.version), 0) INTO v FROM log.events e WHERE e.stream = _stream;
  IF _expected IS NOT NULL AND _expected <> v THEN
    RAISE EXCEPTION 'append: stream % is at version %, not %', _stream, v, _expected
      USING ERRCODE = '40001', DETAIL = v::text;
  END IF;

  SELECT e.position, e.hash, e.recorded_at INTO p, h, last_at FROM log.events e ORDER BY e.position DESC LIMIT 1;
  p := coalesce(p, 0);
  h := coalesce(h, decode(repeat('00', 32), 'hex'));
  at := greatest(clock_timestamp(), last_at);  -- time never goes backwards in the log, so a binary search finds a moment
  us := (extract(epoch FROM at) * 1000000)::bigint;
  FOR k IN 1..n LOOP
    -- log.canonical, written out: a function call per event costs a fifth of the append
    h := sha256(h || convert_to((p + k) || E'\n' || _stream || E'\n' || (v + k) || E'\n' || _ids[k] || E'\n' || _types[k]
         || E'\n' || us || E'\n' || octet_length(_datas[k]) || E'\n' || _datas[k] || coalesce(_metas[k], '{}'), 'UTF8'));
    hashes := hashes || h;
  END LOOP;
  INSERT INTO log.events (position, version, recorded_at, id, stream, type, data, meta, hash)
    SELECT p + o, v + o, at, i, _stream, t, d::json, coalesce(m, '{}')::json, hh
      FROM unnest(_ids, _types, _datas, hashes, _metas) WITH ORDINALITY u(i, t, d, hh, m, o) ORDER BY o;
  PERFORM pg_notify('events', (p + n)::text);
  RETURN QUERY SELECT p + 1, v + n, false;
END $$;

-- The last position recorded at or before a moment; 0 before the first. Positions have no gaps and time is
-- monotone in them, so a binary search over the primary key needs no other index.
CREATE FUNCTION log.position_at(_at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  low bigint := 0;
  high bigint;
  middle bigint;
  found_at timestamptz;
BEGIN
  SELECT coalesce(max(position), 0) INTO high FROM log.events;
  WHILE low < high LOOP
    middle := (low + high + 1) / 2;
    SELECT recorded_at INTO STRICT found_at FROM log.events WHERE position = middle;
    IF found_at <= _at THEN low := middle; ELSE high := middle - 1; END IF;
  END LOOP;
  RETURN low;
END $$;

CREATE FUNCTION log.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
END $$;
CREATE TRIGGER no_rewrite BEFORE UPDATE OR DELETE ON log.events FOR EACH ROW EXECUTE FUNCTION log.refuse();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON log.events FOR EACH STATEMENT EXECUTE FUNCTION log.refuse();

-- The head of the chain at some moments. No chain can show that its tail was cut off; an anchor kept elsewhere does.
CREATE TABLE log.anchors (
  position  bigint PRIMARY KEY REFERENCES log.events,
  hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
  signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  signature bytea
);
CREATE TRIGGER no_rewrite BEFORE UPDATE OR DELETE ON log.anchors FOR EACH ROW EXECUTE FUNCTION log.refuse();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON log.anchors FOR EACH STATEMENT EXECUTE FUNCTION log.refuse();

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA log FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append TO backup_worker, backup_api;
GRANT EXECUTE ON FUNCTION log.position_at, log.canonical, log.microseconds TO backup_worker, backup_api, backup_anon;
GRANT SELECT ON log.events, log.anchors TO backup_worker, backup_api, backup_anon;
RESET ROLE;
