-- A role for each service, and for each role the types of event that it may append. `backup_worker` is what they all
-- are members of: it reads. Where no service has a password of its own, backup_worker goes on doing everything
-- (its `*` below); provisioning takes that away as soon as one has (shared/adapters/roles.py).

SET LOCAL ROLE backup_owner;

-- One row with all types: a row for each would take append four times as long to look at.
CREATE TABLE log.writers (
  role  text COLLATE "C" PRIMARY KEY,
  types text[] NOT NULL
);
INSERT INTO log.writers VALUES ('backup_worker', '{*}'), ('backup_api', '{*}');

-- Appends events to one stream. _expected is the version the writer has seen, or NULL for a fact that holds
-- whatever else happened. Sending the same ids again returns the first result. SQLSTATE 40001: the stream has
-- moved on (DETAIL is its version). SQLSTATE 23505: an id is already recorded for something else. SQLSTATE 42501: who
-- logged in may not write an event of this type (session_user: SET ROLE and this function's owner change nothing).
CREATE OR REPLACE FUNCTION log.append(_stream text, _expected bigint, _ids uuid[], _types text[], _datas text[], _metas text[] DEFAULT NULL)
RETURNS TABLE (first_position bigint, last_version bigint, duplicate boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  n int := cardinality(_ids);
  mine text[];
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
  SELECT w.types INTO mine FROM log.writers w WHERE w.role = session_user;
  IF NOT coalesce(_types <@ mine OR '*' = ANY (mine), false) AND NOT pg_has_role(session_user, 'backup_owner', 'MEMBER') THEN
    RAISE EXCEPTION 'append: % may not write events of type %', session_user,
      (SELECT string_agg(DISTINCT u.name, ', ') FROM unnest(_types) u(name) WHERE u.name <> ALL (coalesce(mine, '{}')))
      USING ERRCODE = '42501';
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

GRANT EXECUTE ON FUNCTION log.append
   TO backup_scheduler, backup_snapshotter, backup_archiver, backup_retention, backup_restorer, backup_operator;
GRANT EXECUTE ON FUNCTION log.anchor TO backup_snapshotter;
REVOKE EXECUTE ON FUNCTION log.anchor FROM backup_api;
GRANT USAGE ON SCHEMA access TO backup_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA access TO backup_operator;
RESET ROLE;
