"""What the main job stands on: base models and members of a zoo."""
