-- The newest that clients told about each track; a client that named no more than the id never hides one that told more.
SELECT *
FROM tracks
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY tenant, track_id
  ORDER BY IF(track_name IS NULL AND artist_name IS NULL, 0, 1) DESC, kafka_offset DESC
) = 1
