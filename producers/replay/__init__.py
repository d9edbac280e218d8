"""Recorded events and real listening histories, sent again in the order of their files."""
