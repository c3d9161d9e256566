"""What the server keeps of each robot: window, step, seed and action chunk."""
