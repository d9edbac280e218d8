-- Why records were refused.
SELECT reason, stage, COUNT(*) AS letters, MAX(failed_at) AS newest
FROM dead_letters
GROUP BY reason, stage
ORDER BY letters DESC, reason, stage
