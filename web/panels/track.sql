-- One track and what is known about it.
SELECT
  t.track_id,
  COALESCE(t.track_name, t.track_id) AS track_name,
  t.artist_name,
  t.album_name,
  i.mood_analysis.label AS mood,
  i.mood_analysis.valence AS valence,
  i.mood_analysis.energy AS energy,
  i.genre_prediction.label AS genre,
  i.genre_prediction.confidence AS genre_confidence,
  i.listening_context,
  i.engagement_score,
  i.provenance,
  i.model
FROM (SELECT @tenant AS tenant, @track_id AS track_id) AS asked
LEFT JOIN current_tracks AS t ON t.tenant = asked.tenant AND t.track_id = asked.track_id
LEFT JOIN current_insights AS i ON i.tenant = asked.tenant AND i.track_id = asked.track_id
WHERE t.track_id IS NOT NULL OR i.track_id IS NOT NULL
