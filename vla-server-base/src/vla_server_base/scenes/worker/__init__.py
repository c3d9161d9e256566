"""The scene worker's side: the only folder that imports MuJoCo."""
