"""Time on this machine: pinned threads, paired latencies, operators, a plot."""
