-- Listeners of each step: seen for the first time in it, or known from before.
WITH first_seen AS (
  SELECT tenant, user_id, MIN(`timestamp`) AS first_at
  FROM events
  WHERE `timestamp` <= @until
  GROUP BY tenant, user_id
),
active AS (
  SELECT DISTINCT DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms AS from_ms, tenant, user_id
  FROM events
  WHERE `timestamp` BETWEEN @since AND @complete_until
)
SELECT
  TIMESTAMP_MILLIS(a.from_ms) AS step,
  IF(UNIX_MILLIS(f.first_at) >= a.from_ms, 'new', 'returning') AS listener,
  COUNT(*) AS listeners
FROM active AS a
JOIN first_seen AS f ON f.tenant = a.tenant AND f.user_id = a.user_id
GROUP BY step, listener
ORDER BY step, listener
