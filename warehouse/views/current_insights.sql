-- The newest insight of each track.
SELECT *
FROM track_insights
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY tenant, track_id ORDER BY generated_at DESC, kafka_offset DESC) = 1
