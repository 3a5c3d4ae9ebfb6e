-- What a foreign program may read without knowing the events: `backup_anon` sees these views.

CREATE SCHEMA api AUTHORIZATION backup_owner;
SET LOCAL ROLE backup_owner;
GRANT USAGE ON SCHEMA api TO backup_anon, backup_api, backup_worker;

CREATE VIEW api.snapshots AS
  SELECT substr(stream, 6) AS host, data->>'snapshot' AS snapshot, (data->>'slot')::timestamptz AS slot,
         data->>'quality' AS quality, (data->>'files')::bigint AS files, (data->>'size_bytes')::bigint AS size_bytes,
         (data->>'transferred_bytes')::bigint AS transferred_bytes, recorded_at, position
    FROM log.events WHERE type IN ('SnapshotCompleted', 'SnapshotDiscovered') AND stream LIKE 'host-%';

CREATE VIEW api.jobs AS
  SELECT data->>'run' AS run, 'snapshot'::text AS job, substr(stream, 6) AS host, (data->>'slot')::timestamptz AS slot,
         CASE type WHEN 'SnapshotStarted' THEN 'started' WHEN 'SnapshotCompleted' THEN 'completed'
                   WHEN 'SnapshotFailed' THEN 'failed' WHEN 'SnapshotAbandoned' THEN 'abandoned' END AS outcome,
         recorded_at, position
    FROM log.events
   WHERE type IN ('SnapshotStarted', 'SnapshotCompleted', 'SnapshotFailed', 'SnapshotAbandoned') AND stream LIKE 'host-%';

CREATE VIEW api.job_hosts AS
  SELECT DISTINCT ON (host, job) host, job, run, slot, outcome, recorded_at
    FROM api.jobs ORDER BY host, job, position DESC;

GRANT SELECT ON ALL TABLES IN SCHEMA api TO backup_anon, backup_api, backup_worker;
RESET ROLE;
