"""A seeded crowd of listeners: the same arguments tell the same events, byte for byte."""
