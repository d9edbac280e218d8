"""columnar://, a Faust transport that hands whole Kafka record batches to the agents."""
