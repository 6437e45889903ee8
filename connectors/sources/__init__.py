"""Frames from the outside: transports, venues, the journal and the one Bytewax source."""
