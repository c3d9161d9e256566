"""A simulation continued step by step, and what is measured of it."""
