"""What a user says about p(x | z)."""
