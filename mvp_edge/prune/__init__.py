"""The main job: request, load, rank, size, vote, slice, fit, deliver; `run.py` is the page that reads top to bottom."""
