"""The main job: `job.py` is its door; names alone, photographs on ready-made bodies, or a vote of members."""
