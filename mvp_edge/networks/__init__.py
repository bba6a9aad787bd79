"""What a network is before anything is pruned: architectures, base models, norms, classifiers."""
