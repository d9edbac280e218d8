"""Kafka to warehouse, rows and offsets in one commit; dead letters and the loss ledger."""
