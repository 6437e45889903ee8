"""What reads the tables."""
