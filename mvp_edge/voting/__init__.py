"""Meta-Vote Pruning (Algorithm 1).

| lines | step | where |
|---|---|---|
| 1 | rank the zoo's members by similarity, and select the voters | `neighbours.rank`, `neighbours.select_voters` |
| 2-3 | let the voters decide which units stay (Equation 1) | `meta_vote.vote` |
| 4-6 | slice the base and average the voters' weights | `meta_vote.assemble` |
| 7-8 | fine-tune | `mvp_edge.prune`, `mvp_edge.training` |
"""
