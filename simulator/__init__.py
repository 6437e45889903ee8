"""A seeded market that speaks the venues' own protocols on loopback. Shares nothing with what it tests."""
