-- Skips per play of the most played genres, and of all.
WITH counted AS (
  SELECT
    tenant, track_id, COUNTIF(event_type = 'play') AS plays, COUNTIF(event_type = 'skip') AS skips
  FROM events
  WHERE event_type IN ('play', 'skip') AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id
)
SELECT
  i.genre_prediction.label AS genre,
  SUM(c.plays) AS plays,
  SUM(c.skips) / SUM(c.plays) AS skip_rate,
  SUM(SUM(c.skips)) OVER () / SUM(SUM(c.plays)) OVER () AS overall
FROM counted AS c
JOIN current_insights AS i ON i.tenant = c.tenant AND i.track_id = c.track_id
GROUP BY genre
HAVING SUM(c.plays) > 0
ORDER BY plays DESC, genre
LIMIT 15
