"""Who is served first, and who gives way: classes, deadlines, turns, and rates."""
