-- Plays by the mood of their track over time; steps with hardly any plays (late events) would show a false mix.
WITH steps AS (
  SELECT TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms) AS step, tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY step, tenant, track_id
),
moods AS (
  SELECT s.step, i.mood_analysis.label AS mood, SUM(s.plays) AS plays
  FROM steps AS s
  JOIN current_insights AS i ON i.tenant = s.tenant AND i.track_id = s.track_id
  GROUP BY s.step, mood
),
totals AS (
  SELECT step, SUM(plays) AS total FROM moods GROUP BY step
)
SELECT m.step, m.mood, m.plays
FROM moods AS m
JOIN totals AS t ON t.step = m.step
WHERE t.total * 50 >= (SELECT MAX(total) FROM totals)
ORDER BY m.step, m.mood
