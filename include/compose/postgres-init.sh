#!/bin/sh
# Run once, when the database's volume is new: a role and a database each for Airflow and MLflow.
# Texts are UTF-8 whatever the image's own locale is. The passwords come from files and go to psql's standard input, so that no process list shows them.
set -eu
for owner in airflow mlflow; do
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres <<SQL
CREATE ROLE $owner LOGIN PASSWORD '$(cat "/run/secrets/${owner}_database_password")';
CREATE DATABASE $owner OWNER $owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
REVOKE ALL ON DATABASE $owner FROM PUBLIC;
SQL
done
