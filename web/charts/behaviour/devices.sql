-- Plays by device.
SELECT COALESCE(device, 'not told') AS device, COUNT(*) AS plays, COUNT(DISTINCT user_id) AS listeners
FROM events
WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
GROUP BY device
ORDER BY plays DESC, device
LIMIT 10
