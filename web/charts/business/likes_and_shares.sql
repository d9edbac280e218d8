-- Likes and shares per 1,000 plays, by platform.
WITH counted AS (
  SELECT
    platform,
    COUNTIF(event_type = 'play') AS plays,
    COUNTIF(event_type = 'like') AS likes,
    COUNTIF(event_type = 'share') AS shares
  FROM events
  WHERE `timestamp` BETWEEN @since AND @until
  GROUP BY platform
)
SELECT platform, reaction, 1000 * IF(reaction = 'likes', likes, shares) / plays AS per_1000_plays
FROM counted, UNNEST(['likes', 'shares']) AS reaction
WHERE plays > 0
ORDER BY platform, reaction
