-- Skips per play over time; steps with fewer than 5 plays say nothing.
SELECT
  TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms) AS step,
  platform,
  COUNTIF(event_type = 'play') AS plays,
  COUNTIF(event_type = 'skip') / COUNTIF(event_type = 'play') AS skip_rate
FROM events
WHERE `timestamp` BETWEEN @since AND @until
GROUP BY step, platform
HAVING COUNTIF(event_type = 'play') >= 5
ORDER BY step, platform
