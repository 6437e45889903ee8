"""Pure state machines, one per file, and the one adapter that runs them in Bytewax. No sockets, no files, no clock."""
