"""Readers of recorded events and of real listening histories, one file per format, told apart by what is in a file."""
