-- The tracks that are similar to one, most similar first.
SELECT
  place + 1 AS place,
  s AS track_id,
  i.tenant,
  COALESCE(t.track_name, s) AS track_name,
  t.artist_name,
  o.mood_analysis.label AS mood,
  o.genre_prediction.label AS genre,
  o.listening_context,
  COALESCE(p.plays, 0) AS plays
FROM current_insights AS i,
UNNEST(i.similar_tracks) AS s WITH OFFSET AS place
LEFT JOIN current_tracks AS t ON t.tenant = i.tenant AND t.track_id = s
LEFT JOIN current_insights AS o ON o.tenant = i.tenant AND o.track_id = s
LEFT JOIN (
  SELECT track_id, COUNT(*) AS plays FROM events WHERE tenant = @tenant AND event_type = 'play' GROUP BY track_id
) AS p ON p.track_id = s
WHERE i.tenant = @tenant AND i.track_id = @track_id
ORDER BY place
