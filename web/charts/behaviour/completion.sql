-- How much of a track is heard, in tenths, and what ended it.
SELECT LEAST(CAST(FLOOR(completion * 10) AS INT64), 9) / 10 AS heard, ended_by, COUNT(*) AS plays
FROM plays
WHERE completion IS NOT NULL AND started_at BETWEEN @since AND @until
GROUP BY heard, ended_by
ORDER BY heard, ended_by
