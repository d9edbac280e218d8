-- How much there is: while this stays the same, so does every chart.
SELECT
  (SELECT COUNT(*) FROM events) AS events,
  (SELECT COUNT(*) FROM plays) AS plays,
  (SELECT COUNT(*) FROM track_insights) AS insights,
  (SELECT COUNT(*) FROM tracks) AS tracks,
  (SELECT COUNT(*) FROM anomaly_alerts) AS alert_transitions,
  (SELECT COUNT(*) FROM dead_letters) AS dead_letters,
  (SELECT MIN(`timestamp`) FROM events) AS oldest,
  (SELECT MAX(IF(`timestamp` <= @now, `timestamp`, NULL)) FROM events) AS newest,
  (SELECT COUNT(*) FROM alerts WHERE status = 'raised') AS open_alerts
