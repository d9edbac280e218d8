-- One row per alert: its newest transition, and when it was raised and resolved.
SELECT
  *,
  MIN(IF(status = 'raised', `at`, NULL)) OVER (PARTITION BY tenant, alert_id) AS raised_at,
  MAX(IF(status = 'resolved', `at`, NULL)) OVER (PARTITION BY tenant, alert_id) AS resolved_at
FROM anomaly_alerts
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY tenant, alert_id ORDER BY `at` DESC, status = 'resolved' DESC) = 1
