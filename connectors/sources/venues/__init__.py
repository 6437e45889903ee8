"""Feeds of one kind, one module each: what to ask, and how to read the answers."""
