"""Side-by-side measurements: a speed is only claimed as a ratio within one run."""
