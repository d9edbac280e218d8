-- Plays and listeners by country.
SELECT COALESCE(country, 'not told') AS country, COUNT(*) AS plays, COUNT(DISTINCT user_id) AS listeners
FROM events
WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
GROUP BY country
ORDER BY plays DESC, country
LIMIT 15
