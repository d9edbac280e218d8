-- Plays and listeners by predicted genre.
WITH played AS (
  SELECT tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
)
SELECT i.genre_prediction.label AS genre, SUM(p.plays) AS plays, COUNT(*) AS tracks
FROM played AS p
JOIN current_insights AS i ON i.tenant = p.tenant AND i.track_id = p.track_id
GROUP BY genre
ORDER BY plays DESC, genre
LIMIT 15
