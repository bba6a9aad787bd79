"""Training: the loop, optimisers and recipes, checkpoints, how much of it to keep."""
