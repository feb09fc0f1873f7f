"""The local stack: Airflow, MLflow and the model host on one machine, under one folder and one supervisor."""
