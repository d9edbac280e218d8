"""The page and its JSON API: a chart is one .sql file beside one Vega-Lite spec."""
