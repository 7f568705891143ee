"""How many clusters, and which model: candidates, criteria, and what to make of them."""
