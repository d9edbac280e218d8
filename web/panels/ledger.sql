-- The ledger per way in, from the warehouse alone.
SELECT
  source,
  SUM(accepted) AS accepted,
  SUM(loaded) AS loaded,
  SUM(dead_lettered) AS dead_lettered,
  SUM(deduplicated) AS deduplicated,
  SUM(difference) AS difference
FROM ledger_balance
GROUP BY source
ORDER BY accepted DESC, source
