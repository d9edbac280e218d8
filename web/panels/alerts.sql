-- Open alerts first, the newest on top.
SELECT detector, kind, status, severity, series, summary, observed, expected, onset, raised_at, resolved_at, runbook
FROM alerts
ORDER BY status = 'raised' DESC, `at` DESC
LIMIT 20
