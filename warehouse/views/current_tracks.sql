-- The newest that clients told about each track.
SELECT *
FROM tracks
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY tenant, track_id ORDER BY kafka_offset DESC) = 1
