"""Other ways to reach the server than its own routes: one file each, around the protocol that it carries."""
