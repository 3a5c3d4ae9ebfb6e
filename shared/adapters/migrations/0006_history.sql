-- What the pages of the history ask for: the runs that ended, newest first, and what happens rarely, by its type.
-- Progress is nine tenths of the log; with one index over everything each append would pay for it.

SET LOCAL ROLE backup_owner;

CREATE INDEX run_ends ON log.events (position)
  WHERE type IN ('SnapshotCompleted', 'SnapshotFailed', 'SnapshotCancelled', 'SnapshotAbandoned',
                 'ArchiveCompleted', 'ArchiveFailed', 'ArchiveCancelled', 'ArchiveAbandoned',
                 'RetentionCompleted', 'RetentionFailed', 'RetentionCancelled', 'RetentionAbandoned',
                 'RestoreCompleted', 'RestoreFailed', 'RestoreCancelled', 'RestoreAbandoned');

CREATE INDEX rare_events ON log.events (type, position)
  WHERE type <> 'SnapshotProgressed' AND type <> 'ArchiveProgressed' AND type <> 'RestoreProgressed'
    AND type <> 'SnapshotStarted' AND type <> 'SnapshotCompleted' AND type <> 'RetentionStarted'
    AND type <> 'RetentionCompleted' AND type <> 'ArchiveStarted' AND type <> 'ArchiveCompleted';

RESET ROLE;
