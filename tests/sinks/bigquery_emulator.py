"""Runs PyPI's local-bigquery with Python 3.13: the home directory, then the ports of REST and of the Storage Write API.

The emulator would fetch two DuckDB extensions from the internet. DuckLake comes from its wheel; geography, which needs
the other, is left out. Its connections are set to UTC here, because DuckDB takes the time zone only after the start.
"""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import duckdb


def main() -> None:
    """Serves until it is killed."""
    home, port, grpc_port = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.environ["HOME"] = str(home)
    version = f"v{duckdb.__version__}"
    found = duckdb.sql("PRAGMA platform").fetchone()
    assert found is not None
    place = home / ".duckdb" / "extensions" / version / found[0]
    place.mkdir(parents=True, exist_ok=True)
    extension = files("duckdb_extension_ducklake") / "extensions" / version / "ducklake.duckdb_extension"
    shutil.copy(str(extension), place)
    connect = duckdb.connect

    def connect_in_utc(*args, config=None, **named):  # type: ignore[no-untyped-def]
        connection = connect(*args, **named)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        return connection

    duckdb.connect = connect_in_utc
    from local_bigquery.cli import main as serve  # noqa: PLC0415 - connects through what was just replaced
    from local_bigquery.engine import database  # noqa: PLC0415 - as above

    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.name != "geography.sql"]
    data = str(home / "data")
    serve(["--host", "127.0.0.1", "--port", port, "--grpc-port", grpc_port, "--project", "test", "--data-dir", data])


if __name__ == "__main__":
    main()
