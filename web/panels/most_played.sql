-- Most played tracks with what is similar to them.
WITH most AS (
  SELECT tenant, track_id, COUNT(*) AS plays, MAX(track_name) AS told_name, MAX(artist_name) AS told_artist
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
  ORDER BY plays DESC, track_id
  LIMIT 15
),
similar AS (
  SELECT m.tenant, m.track_id, s AS similar_id, place
  FROM most AS m
  JOIN current_insights AS i ON i.tenant = m.tenant AND i.track_id = m.track_id,
  UNNEST(i.similar_tracks) AS s WITH OFFSET AS place
),
named AS (
  SELECT s.tenant, s.track_id, ARRAY_AGG(COALESCE(t.track_name, s.similar_id) ORDER BY s.place) AS similar_names
  FROM similar AS s
  LEFT JOIN current_tracks AS t ON t.tenant = s.tenant AND t.track_id = s.similar_id
  WHERE s.place < 3
  GROUP BY s.tenant, s.track_id
)
SELECT
  m.tenant,
  m.track_id,
  COALESCE(t.track_name, m.told_name, m.track_id) AS track_name,
  COALESCE(t.artist_name, m.told_artist) AS artist_name,
  m.plays,
  i.genre_prediction.label AS genre,
  i.mood_analysis.label AS mood,
  n.similar_names
FROM most AS m
LEFT JOIN current_tracks AS t ON t.tenant = m.tenant AND t.track_id = m.track_id
LEFT JOIN current_insights AS i ON i.tenant = m.tenant AND i.track_id = m.track_id
LEFT JOIN named AS n ON n.tenant = m.tenant AND n.track_id = m.track_id
ORDER BY m.plays DESC, m.track_id
