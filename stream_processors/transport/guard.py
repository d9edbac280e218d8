"""Names the private parts of Faust and aiokafka that the transport stands on, and refuses clearly when they changed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

RELIED_UPON = {
    "aiokafka.consumer.fetcher:PartitionRecords": (
        "_unpack_records",
        "_consume_aborted_up_to",
        "_contains_abort_marker",
    ),
    "aiokafka.consumer.fetcher:Fetcher": ("_proc_fetch_request", "fetched_records"),
    "aiokafka.consumer.fetcher:FetchResult": ("getall", "has_more"),
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread": ("_fetch_records", "seek_wait", "on_start"),
    "faust.transport.drivers.aiokafka:Consumer": (
        "_to_message",
        "_new_offset",
        "_add_gap",
        "_seek",
        "perform_seek",
        "on_partitions_revoked",
        "_new_consumer_thread",
    ),
    "faust.tables.base:Collection": ("send_changelog", "data"),
}


class ChangedLibraryError(RuntimeError):
    """A library is not the one that the transport was written for."""


def check() -> None:
    """Raises ChangedLibraryError when a pinned version or a private name is not what the transport relies upon."""
    for package, wanted in PINNED.items():
        found = version(package)
        if found != wanted:
            raise ChangedLibraryError(
                f"{package} is {found}, the columnar transport was written for {wanted}: "
                "install the versions of requirements.lock."
            )
    for place, names in RELIED_UPON.items():
        module, _, cls = place.partition(":")
        owner = getattr(import_module(module), cls, None)
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            raise ChangedLibraryError(
                f"{place} has no {', '.join(missing)}: install the versions of requirements.lock."
            )
