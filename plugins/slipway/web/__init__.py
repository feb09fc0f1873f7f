"""What Slipway adds to Airflow's own web server. Imported in the API server only, and there at the first request."""
