-- Hours of music heard by platform, over time.
SELECT
  TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(started_at), @step_ms) * @step_ms) AS step,
  platform,
  SUM(ms_played) / 3600000 AS hours
FROM plays
WHERE started_at BETWEEN @since AND @complete_until
GROUP BY step, platform
ORDER BY step, platform
