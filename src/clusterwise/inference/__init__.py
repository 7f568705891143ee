"""What is derived from a fitted model."""
