"""A compiled scene as one glTF 2.0 file: shapes, materials, textures, cameras, lights, and a node for each body."""
