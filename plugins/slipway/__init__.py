"""Slipway: one Airflow DAG per lifecycle action, from a zipped bundle to a live, verified endpoint."""
