"""What one prediction keeps for the next, and predictions that share a pass."""
