"""Names the private parts of Faust and aiokafka that the transport stands on, and refuses clearly when they changed."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

_FETCHER = "aiokafka.consumer.fetcher"
_DRIVER = "faust.transport.drivers.aiokafka"
_ADVICE = "install the versions of requirements.lock"


@dataclass(frozen=True)
class Part:
    """A class, the parameters of its methods that we call or override, and the attributes that it gives its objects."""

    place: str
    methods: dict[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()


RELIED_UPON = (
    Part(
        f"{_FETCHER}:PartitionRecords",
        {
            "__init__": "self tp records aborted_transactions fetch_offset key_deserializer value_deserializer "
            "check_crcs isolation_level",
            "_unpack_records": "self",
            "_consume_aborted_up_to": "self batch_offset",
            "_contains_abort_marker": "self next_batch",
        },
        (
            "_tp",
            "_records",
            "_aborted_transactions",
            "_aborted_producers",
            "_check_crcs",
            "_isolation_level",
            "next_fetch_offset",
        ),
    ),
    Part(
        f"{_FETCHER}:Fetcher",
        {
            "_proc_fetch_request": "self assignment node_id request",
            "fetched_records": "self partitions timeout max_records",
        },
        ("_client", "_records", "_check_crcs", "_isolation_level", "_fetch_min_bytes", "_fetch_max_wait_ms"),
    ),
    Part(f"{_FETCHER}:FetchResult", {"getall": "self max_records", "has_more": "self"}, ("_partition_records",)),
    Part("aiokafka.protocol.fetch:FetchRequest"),
    Part("aiokafka.record.default_records:DefaultRecordBatch", {"validate_crc": "self"}),
    Part(
        f"{_DRIVER}:AIOKafkaConsumerThread",
        {
            "__post_init__": "self",
            "on_start": "self",
            "on_partitions_revoked": "self revoked",
            "on_partitions_assigned": "self assigned generation_id",
            "seek_wait": "self partitions",
            "_seek_wait": "self consumer partitions",
            "_fetch_records": "self consumer active_partitions timeout max_records",
        },
        ("_consumer",),
    ),
    Part(
        f"{_DRIVER}:Consumer",
        {
            "on_init": "self",
            "_new_consumer_thread": "self",
            "_to_message": "self tp record",
            "_new_offset": "self tp",
            "_add_gap": "self tp offset_from offset_to",
            "_seek": "self partition offset",
            "seek": "self partition offset",
            "perform_seek": "self",
            "earliest_offsets": "self partitions",
            "on_partitions_revoked": "self revoked",
            "on_partitions_assigned": "self assigned generation_id",
        },
    ),
    Part("faust.transport.consumer:Consumer", attributes=("_acked", "_acked_index")),
    Part("faust.transport.consumer:ThreadDelegateConsumer", attributes=("_thread",)),
    Part("faust.app.base:App", attributes=("on_rebalance_complete",)),
    Part("faust.transport.conductor:Conductor", attributes=("_topics",)),
    Part(
        "faust.types:ConsumerMessage",
        {
            "__init__": "self topic partition offset timestamp timestamp_type headers key value checksum "
            "serialized_key_size serialized_value_size tp time_in time_out time_total generation_id"
        },
    ),
    Part("faust.tables.base:Collection", {"send_changelog": "", "data": ""}),
)


class ChangedLibraryError(RuntimeError):
    """A library is not the one that the transport was written for."""


def check() -> None:
    """Raises ChangedLibraryError when a pinned version or a private name is not what the transport relies upon."""
    for package, wanted in PINNED.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        if found != wanted:
            raise ChangedLibraryError(
                f"{package} is {found}, the columnar transport was written for {wanted}: {_ADVICE}."
            )
    for part in RELIED_UPON:
        if wrong := _changes(part):
            raise ChangedLibraryError(f"{part.place} {wrong}: {_ADVICE}.")


def _changes(part: Part) -> str:
    """What is not as it should be; empty when all is."""
    module, _, name = part.place.partition(":")
    try:
        owner = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return "is gone"
    for method, wanted in part.methods.items():
        if not hasattr(owner, method):
            return f"has no {method}"
        if wanted and (found := _parameters(getattr(owner, method))) not in ("", wanted):
            return f"has {method} with the parameters ({found}), not ({wanted})"
    missing = [attribute for attribute in part.attributes if not _gives(owner, attribute)]
    return f"has no {', '.join(missing)}" if missing else ""


def _parameters(method: Any) -> str:
    """Names of the parameters; empty for one that is compiled and does not tell."""
    try:
        return " ".join(inspect.signature(method).parameters)
    except (TypeError, ValueError):
        return ""


def _gives(owner: Any, attribute: str) -> bool:
    """Whether the class sets the attribute, or the module that it stands in."""
    if hasattr(owner, attribute):
        return True
    text = inspect.getsource(import_module(owner.__module__))
    return re.search(rf"\bself\.{attribute}\b|(?m:^    {attribute}:)", text) is not None
