"""The front door: command line, settings, doctor."""
