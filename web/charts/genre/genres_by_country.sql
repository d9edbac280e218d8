-- Share of each genre in the plays of a country; the 12 countries with most plays.
WITH played AS (
  SELECT tenant, track_id, country, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND country IS NOT NULL AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id, country
),
genres AS (
  SELECT p.country, i.genre_prediction.label AS genre, SUM(p.plays) AS plays
  FROM played AS p
  JOIN current_insights AS i ON i.tenant = p.tenant AND i.track_id = p.track_id
  GROUP BY p.country, genre
),
top AS (
  SELECT country, SUM(plays) AS plays FROM genres GROUP BY country ORDER BY plays DESC, country LIMIT 12
)
SELECT g.country, g.genre, g.plays, g.plays / top.plays AS share
FROM genres AS g
JOIN top ON top.country = g.country
ORDER BY g.country, g.genre
