"""A minimal NumPy network."""
