"""The closed loop: observe, predict, control, simulate, judge."""
