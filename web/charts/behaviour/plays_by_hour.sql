-- Plays by hour of the day (UTC) and platform.
SELECT EXTRACT(HOUR FROM `timestamp`) AS hour, platform, COUNT(*) AS plays
FROM events
WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
GROUP BY hour, platform
ORDER BY hour, platform
