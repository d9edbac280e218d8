-- Share of each mood in the plays of a platform.
WITH played AS (
  SELECT tenant, track_id, platform, COUNT(*) AS plays
  FROM events
  WHERE event_type = 'play' AND `timestamp` BETWEEN @since AND @until
  GROUP BY tenant, track_id, platform
),
moods AS (
  SELECT p.platform, i.mood_analysis.label AS mood, SUM(p.plays) AS plays
  FROM played AS p
  JOIN current_insights AS i ON i.tenant = p.tenant AND i.track_id = p.track_id
  GROUP BY p.platform, mood
)
SELECT platform, mood, plays, plays / SUM(plays) OVER (PARTITION BY platform) AS share
FROM moods
ORDER BY platform, mood
