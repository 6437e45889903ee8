"""Where rows go: Delta tables through a spool, and metrics."""
