"""Slipway's model host: many scoring servers on one machine behind one stable address."""
