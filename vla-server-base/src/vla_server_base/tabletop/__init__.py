"""The tabletop suite: tasks, placements, scripted experts and their demonstrations on the bundled scenes."""
