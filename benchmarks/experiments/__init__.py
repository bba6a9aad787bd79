"""The experiments: one module for each question."""
