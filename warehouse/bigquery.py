"""BigQuery as the warehouse: the client, and questions to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import google.auth.exceptions
import polars as pl
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from schemas.settings import Settings
from warehouse.answer import Answer, WarehouseError
from warehouse.dialect import bind, question

T = TypeVar("T")

ANSWER_WITHIN_S = 120.0


def client(settings: Settings) -> bigquery.Client:
    """A client for Google's BigQuery, or without credentials for an emulator; raises WarehouseError."""
    if not settings.bigquery_project:
        raise WarehouseError("BigQuery needs a project: set CROSSFADE_BIGQUERY_PROJECT.")
    try:
        if settings.bigquery_endpoint:
            return bigquery.Client(
                settings.bigquery_project,
                credentials=AnonymousCredentials(),
                client_options=ClientOptions(api_endpoint=settings.bigquery_endpoint),
            )
        return bigquery.Client(settings.bigquery_project)
    except google.auth.exceptions.GoogleAuthError as error:
        raise WarehouseError(f"Google does not know who is asking: {error}") from None


def dataset_of(settings: Settings) -> bigquery.DatasetReference:
    """The dataset with its project."""
    return bigquery.DatasetReference(settings.bigquery_project, settings.dataset)


class BigQueryReader:
    """Questions to BigQuery. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._dataset = dataset_of(settings)
        self._client = client(settings)

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Answers one SELECT; raises WarehouseError."""
        return self._ask(
            sql, params, lambda found: Answer.of([f.name for f in found.schema], [r.values() for r in found])
        )

    def frame(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Answers one SELECT as a data frame; raises WarehouseError."""
        return self._ask(sql, params, lambda found: pl.DataFrame(pl.from_arrow(found.to_arrow(bqstorage_client=None))))

    def _ask(self, sql: str, params: Mapping[str, Any] | None, take: Callable[[Any], T]) -> T:
        tree = bind(question(sql), params or {})
        config = bigquery.QueryJobConfig(default_dataset=self._dataset)
        try:
            asked = sql if not params else tree.sql("bigquery")
            found = self._client.query(asked, job_config=config).result(timeout=ANSWER_WITHIN_S)
            return take(found)
        except (GoogleAPIError, google.auth.exceptions.GoogleAuthError, TimeoutError) as error:
            raise WarehouseError(str(getattr(error, "message", None) or error)) from None
