"""The tables of the pages, drawn from the records."""
