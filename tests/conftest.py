"""What all tests have in common: servers in Java that start fast, for they live for seconds."""

from __future__ import annotations

import os

os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
