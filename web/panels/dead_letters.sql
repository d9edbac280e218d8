-- The last ones, with what the record's owner needs to know.
SELECT reason, stage, source, detail, event_id, failed_at
FROM dead_letters
ORDER BY failed_at DESC, dead_letter_id
LIMIT 5
