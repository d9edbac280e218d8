-- Tracks that are named most often as similar to others: bridges between tastes.
WITH named AS (
  SELECT i.tenant, s AS similar_id, COUNT(*) AS named_by
  FROM current_insights AS i, UNNEST(i.similar_tracks) AS s
  GROUP BY i.tenant, similar_id
  ORDER BY named_by DESC, similar_id
  LIMIT 10
)
SELECT
  n.similar_id AS track_id, COALESCE(t.track_name, n.similar_id) AS track_name, COALESCE(t.artist_name, '') AS artist_name, n.named_by
FROM named AS n
LEFT JOIN current_tracks AS t ON t.tenant = n.tenant AND t.track_id = n.similar_id
ORDER BY n.named_by DESC, n.similar_id
