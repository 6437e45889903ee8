"""Whoever reads what others wrote must survive whatever they wrote: inputs made to break the readers. See ``__main__``."""
