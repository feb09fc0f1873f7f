"""The routes, a module for each kind of page: they read the request, ask, and render; no more."""
