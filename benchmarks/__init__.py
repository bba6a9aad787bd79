"""Experiments that back the project's claims: one script a question, results under `results/`."""
