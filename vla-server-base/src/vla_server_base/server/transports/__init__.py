"""How clients reach the server beside its own routes: one file each, around the protocol that it carries."""
