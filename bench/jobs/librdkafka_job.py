"""No job, the limit: librdkafka reads the input through its Python client, which makes an object of each record."""

from __future__ import annotations

from confluent_kafka import Consumer

from bench.jobs import job


def main() -> None:
    """Reads everything once."""
    consumer = Consumer(
        {
            "bootstrap.servers": job.BOOTSTRAP,
            "group.id": f"{job.OUTPUT}-reader",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **job.LIBRDKAFKA,
        }
    )
    consumer.subscribe([job.INPUT])
    consumed = 0
    while consumed < job.EVENTS:
        consumed += len(consumer.consume(10_000, 1))
        job.tell(consumed)
    consumer.close()


if __name__ == "__main__":
    main()
