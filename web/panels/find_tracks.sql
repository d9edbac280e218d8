-- Tracks whose title, artist or id holds the words, most played first.
SELECT
  t.tenant,
  t.track_id,
  COALESCE(t.track_name, t.track_id) AS track_name,
  t.artist_name,
  COUNT(e.event_id) AS plays
FROM current_tracks AS t
LEFT JOIN events AS e ON e.tenant = t.tenant AND e.track_id = t.track_id AND e.event_type = 'play'
WHERE STRPOS(LOWER(CONCAT(COALESCE(t.track_name, ''), ' ', COALESCE(t.artist_name, ''), ' ', t.track_id)), LOWER(@words)) > 0
GROUP BY t.tenant, t.track_id, t.track_name, t.artist_name
ORDER BY plays DESC, t.track_id
LIMIT 12
