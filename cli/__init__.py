"""The command line of mvp-edge; installed as `mvp_edge_cli`.

Importing it is cheap: what needs torch is imported inside the commands.
"""
