"""Meta-Vote Pruning: neighbours, who votes, votes, averaging, assembly (Algorithm 1)."""
