"""The dataflow, as a table of contents."""
