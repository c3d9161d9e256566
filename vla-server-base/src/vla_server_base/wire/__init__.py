"""What a client sends: the bodies of requests, and their way into the core types."""
