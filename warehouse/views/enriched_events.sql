-- Every event with the newest insight of its track; `enrichments` is NULL while there is none.
SELECT
  e.*,
  IF(
    i.track_id IS NULL,
    NULL,
    STRUCT(
      i.mood_analysis AS mood_analysis,
      i.genre_prediction AS genre_prediction,
      i.listening_context AS listening_context,
      i.similar_tracks AS similar_tracks,
      i.engagement_score AS engagement_score
    )
  ) AS enrichments
FROM events AS e
LEFT JOIN current_insights AS i ON i.tenant = e.tenant AND i.track_id = e.track_id
