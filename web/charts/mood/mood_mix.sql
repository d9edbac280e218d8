-- Plays by the mood of their track over time.
WITH steps AS (
  SELECT TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms) AS step, tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY step, tenant, track_id
)
SELECT s.step, i.mood_analysis.label AS mood, SUM(s.plays) AS plays
FROM steps AS s
JOIN current_insights AS i ON i.tenant = s.tenant AND i.track_id = s.track_id
GROUP BY s.step, mood
ORDER BY s.step, mood
