"""Faust: columnar batches become windows, plays and alerts."""
