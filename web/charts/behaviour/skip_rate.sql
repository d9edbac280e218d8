-- Skips per play over time, in longer steps than the other charts. Steps with hardly any plays (late events) say nothing.
WITH steps AS (
  SELECT
    TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @long_step_ms) * @long_step_ms) AS step,
    platform,
    COUNTIF(event_type = 'play') AS plays,
    COUNTIF(event_type = 'skip') AS skips
  FROM events
  WHERE `timestamp` BETWEEN @since AND @until
  GROUP BY step, platform
)
SELECT step, platform, plays, skips / plays AS skip_rate
FROM steps
WHERE plays > 0
QUALIFY plays * 50 >= MAX(plays) OVER (PARTITION BY platform)
ORDER BY step, platform
