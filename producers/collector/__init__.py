"""The HTTP door: `POST /v1/events` answers 202 only after Kafka has acknowledged."""
