"""What the server answers: the bodies of its replies, and their way there from the core types."""
