"""The tabletop suite: tasks on the bundled scenes, scripted experts, demonstrations and evaluation."""
