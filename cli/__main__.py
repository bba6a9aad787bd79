"""Run the command line with `python -m mvp_edge_cli`."""

from .main import main

if __name__ == "__main__":
    main()
