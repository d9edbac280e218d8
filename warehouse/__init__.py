"""BigQuery-dialect SQL and the one runner that also speaks to DuckDB."""
