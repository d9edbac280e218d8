-- Events taken in during the last 10 seconds that had a second to arrive here.
SELECT COUNT(*) / 10 AS events_per_s
FROM events
WHERE received_at BETWEEN TIMESTAMP_SUB(@now, INTERVAL 11 SECOND) AND TIMESTAMP_SUB(@now, INTERVAL 1 SECOND)
