-- Plays by genre over time: the seven most played, and the others together. Steps with hardly any plays (late events)
-- would show a false mix.
WITH steps AS (
  SELECT TIMESTAMP_MILLIS(DIV(UNIX_MILLIS(`timestamp`), @step_ms) * @step_ms) AS step, tenant, track_id, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY step, tenant, track_id
),
genres AS (
  SELECT s.step, i.genre_prediction.label AS genre, SUM(s.plays) AS plays
  FROM steps AS s
  JOIN current_insights AS i ON i.tenant = s.tenant AND i.track_id = s.track_id
  GROUP BY s.step, genre
),
ranked AS (
  SELECT genre, ROW_NUMBER() OVER (ORDER BY SUM(plays) DESC, genre) AS place FROM genres GROUP BY genre
),
totals AS (
  SELECT step, SUM(plays) AS total FROM genres GROUP BY step
)
SELECT g.step, IF(r.place <= 7, g.genre, 'other') AS shown_genre, SUM(g.plays) AS plays
FROM genres AS g
JOIN ranked AS r ON r.genre = g.genre
JOIN totals AS t ON t.step = g.step
WHERE t.total * 50 >= (SELECT MAX(total) FROM totals)
GROUP BY g.step, shown_genre
ORDER BY g.step, shown_genre
