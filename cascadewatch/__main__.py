"""``python -m cascadewatch`` is the command line."""

from cascadewatch.cli import main

main()
