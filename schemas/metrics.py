"""The one list of metric names: every stage takes its Prometheus metrics from here."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# Doors (producers/)
ACCEPTED = Counter("crossfade_events_accepted", "Events acknowledged by Kafka.", ["tenant", "source"])
DUPLICATES_AT_DOOR = Counter("crossfade_events_duplicate", "Events answered as duplicate.", ["tenant", "source"])
REJECTED = Counter("crossfade_events_rejected", "Events refused at the door.", ["tenant", "source", "reason"])
REQUESTS = Counter("crossfade_http_requests", "HTTP requests.", ["stage", "path", "status"])
REQUEST_SECONDS = Histogram("crossfade_http_request_seconds", "Time to answer.", ["stage", "path"])
IN_FLIGHT = Gauge("crossfade_events_in_flight", "Events given to Kafka and not yet acknowledged.", ["source"])

# Worker (stream_processors/)
WORKER_EVENTS = Counter("crossfade_worker_events", "Events read.", ["partition"])
WORKER_BATCHES = Counter("crossfade_worker_batches", "Batches read.", ["path"])  # path: columnar or slow
WIRE_RECORDS = Counter(
    "crossfade_wire_records",
    "Records decoded: as columns, or singly (one by one, to say what is wrong with them).",
    ["path"],
)
WORKER_LATE = Counter("crossfade_worker_late_events", "Events that came after their window had closed.")
WORKER_DUPLICATES = Counter("crossfade_worker_duplicate_events", "Events whose id was seen lately.")
WORKER_WATERMARK = Gauge("crossfade_worker_watermark_timestamp_seconds", "Watermark.", ["partition"])
WORKER_NEXT_OFFSET = Gauge("crossfade_worker_next_offset", "First offset not yet counted.", ["topic", "partition"])
WORKER_LAG = Gauge("crossfade_worker_lag_events", "Records behind the end of the partition.", ["topic", "partition"])
WORKER_EXPIRED = Counter("crossfade_worker_expired_events", "Offsets that retention deleted before they were read.")
SNAPSHOTS = Counter("crossfade_worker_snapshots", "State snapshots written.")
SNAPSHOT_BYTES = Counter("crossfade_worker_snapshot_bytes", "Bytes of state written to the changelog.")
SNAPSHOT_SECONDS = Histogram("crossfade_worker_snapshot_seconds", "Time to write one snapshot.")
SNAPSHOT_AT = Gauge(
    "crossfade_worker_snapshot_timestamp_seconds", "When the state was last saved.", ["topic", "partition"]
)
WINDOWS_FINAL = Counter("crossfade_windows_final", "Final window records emitted.", ["scope"])
PLAYS = Counter("crossfade_plays", "Plays reconstructed.")
ALERT_TRANSITIONS = Counter("crossfade_alert_transitions", "Alerts raised or resolved.", ["detector", "status"])
ALERTS_OPEN = Gauge("crossfade_alerts_open", "Alerts that are raised and not resolved.", ["detector"])

# Enrichment
INSIGHTS = Counter("crossfade_insights", "Track insights written.", ["provenance"])
INSIGHT_CACHE_HITS = Counter("crossfade_insight_cache_hits", "Questions answered from what is known.")
LLM_TOKENS = Counter("crossfade_llm_tokens", "Tokens.", ["direction"])
LLM_COST_USD = Counter("crossfade_llm_cost_usd", "Cost of the questions asked, in US dollars.")
LLM_FAILURES = Counter("crossfade_llm_failures", "Questions that were not answered.", ["kind"])

# Sinks
SINK_LOADED = Counter("crossfade_sink_rows_loaded", "Rows committed to the warehouse.", ["table"])
SINK_DEDUPLICATED = Counter("crossfade_sink_rows_deduplicated", "Rows that the warehouse already held.", ["table"])
SINK_LAG = Gauge("crossfade_sink_lag_records", "Records behind the end of the topic.", ["topic"])
SINK_COMMIT_SECONDS = Histogram("crossfade_sink_commit_seconds", "Time of one warehouse transaction.")
SINK_KNOWN_IDS = Gauge("crossfade_sink_known_ids", "Ids kept for de-duplication, 8 bytes each.", ["table"])
SINK_WAITING = Gauge("crossfade_sink_waiting", "1 while the sink waits for the warehouse; Kafka keeps the records.")
LEDGER_DIFFERENCE = Gauge(
    "crossfade_ledger_difference_events", "Accepted events that are nowhere, over all hours.", ["tenant", "source"]
)
LEDGER_SOURCE = Gauge("crossfade_ledger_source_events", "The ledger by way in.", ["tenant", "source", "entry"])
LEDGER_AGE = Gauge("crossfade_ledger_in_flight_age_seconds", "Age of the oldest accepted event that is in flight.")
LEDGER = Gauge("crossfade_ledger_events", "The loss ledger.", ["entry"])  # entry: accepted, loaded, ...

DEAD_LETTERED = Counter("crossfade_dead_letters", "Records sent to dead-letters.", ["stage", "reason"])
