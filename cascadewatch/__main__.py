"""``python -m cascadewatch`` is the command line."""

from cascadewatch.start import main

main()
