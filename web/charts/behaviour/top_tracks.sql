-- Most played tracks by name, with their skips.
WITH top AS (
  SELECT
    tenant,
    track_id,
    COUNTIF(event_type = 'play') AS plays,
    COUNTIF(event_type = 'skip') AS skips,
    MAX(track_name) AS told_name,
    MAX(artist_name) AS told_artist
  FROM events
  WHERE `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
  HAVING COUNTIF(event_type = 'play') > 0
  ORDER BY plays DESC, track_id
  LIMIT 10
)
SELECT
  top.track_id,
  COALESCE(t.track_name, top.told_name, top.track_id) AS track_name,
  COALESCE(t.artist_name, top.told_artist, '') AS artist_name,
  top.plays,
  top.skips,
  top.skips / top.plays AS skip_rate
FROM top
LEFT JOIN current_tracks AS t ON t.tenant = top.tenant AND t.track_id = top.track_id
ORDER BY plays DESC, track_id
