-- Listeners with at least one event, over time.
SELECT
  TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms) AS step,
  platform,
  COUNT(DISTINCT user_id) AS listeners
FROM events
WHERE `timestamp` BETWEEN @since AND @complete_until
GROUP BY step, platform
ORDER BY step, platform
