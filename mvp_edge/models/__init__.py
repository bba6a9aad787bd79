"""Base models: architectures, groups of coupled units, plans, slicing, heads, MACs."""
