"""What every broker promises, and what the one in memory costs."""
