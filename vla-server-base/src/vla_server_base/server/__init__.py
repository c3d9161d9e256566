"""The HTTP service: routes, middleware, request bodies, and the sockets under them."""
