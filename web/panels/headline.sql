-- The numbers on top, of the chosen stretch of event time.
SELECT
  COUNTIF(event_type = 'play') AS plays,
  SAFE_DIVIDE(COUNTIF(event_type = 'skip'), COUNTIF(event_type = 'play')) AS skip_rate,
  COUNT(DISTINCT user_id) AS listeners
FROM events
WHERE `timestamp` BETWEEN @since AND @until
