-- Plays that count: streams (30 s or longer) and scrobbles (half of the track or 4 minutes) over time.
WITH steps AS (
  SELECT
    TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(started_at), @step_ms) * @step_ms) AS step,
    COUNT(*) AS plays,
    COUNTIF(is_stream) AS streams,
    COUNTIF(is_scrobble) AS scrobbles
  FROM plays
  WHERE started_at BETWEEN @since AND @complete_until
  GROUP BY step
)
SELECT step, counted_as, IF(counted_as = 'plays', plays, IF(counted_as = 'streams', streams, scrobbles)) AS plays
FROM steps, UNNEST(['plays', 'streams', 'scrobbles']) AS counted_as
ORDER BY step, counted_as
