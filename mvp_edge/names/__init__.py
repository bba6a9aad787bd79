"""Class names: class lists, WordNet senses, and how near two names are."""
