"""Robot arms in a scene: found, described, and controlled."""
