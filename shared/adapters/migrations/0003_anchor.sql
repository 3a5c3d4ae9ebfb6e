-- The services may anchor the head of the chain, and nothing but the head.

SET LOCAL ROLE backup_owner;

CREATE FUNCTION log.anchor() RETURNS TABLE (anchored bigint, head bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  p bigint;
  h bytea;
BEGIN
  SELECT e.position, e.hash INTO p, h FROM log.events e ORDER BY e.position DESC LIMIT 1;
  IF p IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO log.anchors (position, hash) VALUES (p, h) ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT p, h;
END $$;

REVOKE ALL ON FUNCTION log.anchor FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.anchor TO backup_worker, backup_api;
RESET ROLE;
