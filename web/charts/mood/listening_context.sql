-- What people do while they listen: plays by the context of the track, and the mood in it.
WITH played AS (
  SELECT tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
)
SELECT i.listening_context AS context, i.mood_analysis.label AS mood, SUM(p.plays) AS plays
FROM played AS p
JOIN current_insights AS i ON i.tenant = p.tenant AND i.track_id = p.track_id
GROUP BY context, mood
ORDER BY plays DESC, context, mood
