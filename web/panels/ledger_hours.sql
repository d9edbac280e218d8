-- The ledger of the last hours, from the warehouse alone; in flight: read, and waiting for a dead letter.
SELECT
  hour,
  SUM(accepted) AS accepted,
  SUM(loaded) AS loaded,
  SUM(dead_lettered) AS dead_lettered,
  SUM(deduplicated) AS deduplicated,
  SUM(difference) AS in_flight
FROM ledger_balance
GROUP BY hour
ORDER BY hour DESC
LIMIT 12
