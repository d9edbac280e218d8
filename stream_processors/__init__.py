"""The worker: windows, plays, sessions, anomalies. Its allocators are set up before any library is loaded."""

from stream_processors.allocator import keep_freed_memory

keep_freed_memory()
