"""Slipway's Spark job: reads, transforms, scores and writes what a plan says. No Airflow in it."""
