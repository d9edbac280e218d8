"""The front door: command line, embedded Kafka, local supervisor."""
