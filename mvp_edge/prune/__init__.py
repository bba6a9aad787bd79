"""The main job, step by step: what is asked for, how large, how far to train, what to deliver and to tell of it."""
