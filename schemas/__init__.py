"""Every contract that crosses a process: Avro files, settings, topics, table columns, reason codes, metric names."""
