-- Events per minute by type; the first and the last step count for the part of them that is shown.
WITH steps AS (
  SELECT DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms AS from_ms, event_type, COUNT(*) AS events
  FROM events
  WHERE `timestamp` BETWEEN @since AND @until
  GROUP BY from_ms, event_type
)
SELECT
  TIMESTAMP_MILLIS(from_ms) AS step,
  event_type,
  events * 60000 / GREATEST(
    LEAST(from_ms + @step_ms, UNIX_MILLIS(@until)) - GREATEST(from_ms, UNIX_MILLIS(@since)), @step_ms / 5
  ) AS events_per_minute
FROM steps
ORDER BY step, event_type
