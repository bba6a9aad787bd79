"""From a budget to how many units of every group to keep: exact costs, a measured latency model, and a search."""
