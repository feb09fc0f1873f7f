"""Score workflows: what a definition may say, and what a caller may ask of it. Nothing heavy is imported here."""
