"""The vocabulary of liquidation cascades: events, contract arithmetic, money, scores. No I/O, no Bytewax, no clock."""
