"""Files and directories: written whole or not at all, known by who wrote them, found where the user keeps them."""
