-- Skips per play over time, in longer steps than the other charts: single plays say little.
SELECT
  TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @long_step_ms) * @long_step_ms) AS step,
  platform,
  COUNTIF(event_type = 'play') AS plays,
  COUNTIF(event_type = 'skip') / COUNTIF(event_type = 'play') AS skip_rate
FROM events
WHERE `timestamp` BETWEEN @since AND @until
GROUP BY step, platform
HAVING COUNTIF(event_type = 'play') > 0
ORDER BY step, platform
