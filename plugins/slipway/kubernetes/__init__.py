"""Endpoints on Kubernetes, without any I/O: what is applied, and what a rollout's state means."""
