"""The zoo: pruned models of earlier tasks, on disk and elsewhere."""
