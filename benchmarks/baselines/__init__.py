"""The baselines of the paper's tables, written anew from what was published about them."""
