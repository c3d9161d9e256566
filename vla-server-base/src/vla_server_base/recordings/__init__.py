"""What sessions were answered, in MCAP files: written while a server runs, read and sent again by `replay`."""
