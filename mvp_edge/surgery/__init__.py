"""Cutting networks: groups of coupled units, slices, means of slices, growth."""
