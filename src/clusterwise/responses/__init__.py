"""What a user says about p(y | x, z)."""
