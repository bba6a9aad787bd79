"""How a pruned model for one task is made from the base model alone."""

from mvp_edge.pruners.ahnp import automatic_prune
from mvp_edge.pruners.ifp import iterative_prune
from mvp_edge.pruners.units import base_importance, random_plan, target_counts, top_plan

__all__ = ["automatic_prune", "base_importance", "iterative_prune", "random_plan", "target_counts", "top_plan"]
