"""What the main job stands on: base models, members of a zoo, and generated images of their classes."""
