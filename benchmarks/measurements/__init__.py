"""What the tool's own choices are worth: a script for each question."""
