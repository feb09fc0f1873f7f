"""The Models page: the whole lifecycle by clicks, in Airflow's own UI.

Pages are rendered on the server and refreshed in parts by htmx. Nothing is kept here: every page is read anew from the
bundle store, MLflow, the targets and Airflow, and every change is a run of a DAG that the looking user triggers.
"""
