"""How near two tasks are to each other."""
