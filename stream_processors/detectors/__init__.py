"""Judges of final windows: each raises and resolves alerts, one file each, beside its runbook in ops/runbooks/."""
