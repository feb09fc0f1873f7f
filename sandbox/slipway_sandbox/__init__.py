"""Local stand-ins for the clouds, for development and tests: real wire protocols, real predictions."""
