-- The loss ledger per hour, tenant and way in, recounted: `loaded` and `dead_lettered` are rows that are there now.
-- accepted = loaded + dead_lettered + deduplicated + in_flight + difference. In flight are records that were read and
-- wait for their dead letter, the oldest since `in_flight_since`; records that were not read yet stand in Kafka only.
SELECT
  hour,
  tenant,
  source,
  SUM(accepted) AS accepted,
  SUM(loaded) AS loaded,
  SUM(dead_lettered) AS dead_lettered,
  SUM(deduplicated) AS deduplicated,
  SUM(in_flight) AS in_flight,
  IF(SUM(in_flight) > 0, MIN(since), NULL) AS in_flight_since,
  IF(SUM(in_flight) > 0, TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), MIN(since), SECOND), 0) AS age_s,
  SUM(accepted) - SUM(loaded) - SUM(dead_lettered) - SUM(deduplicated) - SUM(in_flight) AS difference
FROM (
  SELECT
    hour,
    tenant,
    source,
    accepted,
    0 AS loaded,
    0 AS dead_lettered,
    deduplicated,
    accepted - loaded - dead_lettered - deduplicated AS in_flight,
    IF(accepted > loaded + dead_lettered + deduplicated, committed_at, NULL) AS since
  FROM ledger
  UNION ALL
  SELECT TIMESTAMP_TRUNC(received_at, HOUR), tenant, source, 0, COUNT(*), 0, 0, 0, CAST(NULL AS TIMESTAMP)
  FROM events
  GROUP BY 1, 2, 3
  UNION ALL
  SELECT TIMESTAMP_TRUNC(failed_at, HOUR), tenant, source, 0, 0, COUNT(*), 0, 0, CAST(NULL AS TIMESTAMP)
  FROM dead_letters
  WHERE topic IS NULL OR topic = 'listening-events'
  GROUP BY 1, 2, 3
)
GROUP BY hour, tenant, source
