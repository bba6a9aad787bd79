"""From a budget to how many units of every group to keep: exact costs, a measured latency model, and a search."""

from mvp_edge.budget.costs import Costs, costs_of
from mvp_edge.budget.latency_model import LatencyModel, fit_latency
from mvp_edge.budget.products import Products
from mvp_edge.budget.search import Groups, Limit, Utility, search

__all__ = ["Costs", "Groups", "LatencyModel", "Limit", "Products", "Utility", "costs_of", "fit_latency", "search"]
