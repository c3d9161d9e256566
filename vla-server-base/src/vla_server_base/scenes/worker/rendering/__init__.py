"""Images of a scene, by OpenGL or by ray casting."""
