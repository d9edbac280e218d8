-- The loss ledger per hour and way in; `difference` is what is missing (0 where nothing is).
SELECT
  hour,
  tenant,
  source,
  SUM(accepted) AS accepted,
  SUM(loaded) AS loaded,
  SUM(dead_lettered) AS dead_lettered,
  SUM(deduplicated) AS deduplicated,
  SUM(accepted) - SUM(loaded) - SUM(dead_lettered) - SUM(deduplicated) AS difference
FROM ledger
GROUP BY hour, tenant, source
