-- The 300 most played tracks by how happy and how energetic they are.
WITH played AS (
  SELECT tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
)
SELECT
  COALESCE(t.track_name, p.track_id) AS track_name,
  COALESCE(t.artist_name, '') AS artist_name,
  i.mood_analysis.label AS mood,
  i.mood_analysis.valence AS valence,
  i.mood_analysis.energy AS energy,
  p.plays
FROM played AS p
JOIN current_insights AS i ON i.tenant = p.tenant AND i.track_id = p.track_id
LEFT JOIN current_tracks AS t ON t.tenant = p.tenant AND t.track_id = p.track_id
ORDER BY p.plays DESC, p.track_id
LIMIT 300
