"""Slipway's scoring server: one HTTP server for one model, the same on every target."""

__version__ = "0.1.0"
