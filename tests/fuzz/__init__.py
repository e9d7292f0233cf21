"""Random programs on many ranks: drawn, checked against a serial oracle, shrunk, and printed."""
