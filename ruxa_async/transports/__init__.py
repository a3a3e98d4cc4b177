"""Ways to reach the service: the contract in `base`, and one module for each library."""
