"""Training of Octo: the reference's losses, optimizer and data transforms, step for step."""
