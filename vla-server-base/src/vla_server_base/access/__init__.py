"""Who may use the server: API keys, stored as hashes, in a file that may change while the server runs."""
