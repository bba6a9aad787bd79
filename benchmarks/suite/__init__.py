"""What runs the experiments: rows and their trials, records, costs, figures."""
