# Slipway for production: one image for Airflow's processes, the MLflow server and the model host, which
# docker-compose.yaml starts with different commands. The base must have Python 3.11, Debian's apt and a CA bundle.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# libgomp for LightGBM; a Java runtime for score workflows on the embedded Spark, which may be left out.
# Its package installs manual pages into a folder that slim images lack.
ARG APT_PACKAGES="libgomp1 openjdk-17-jre-headless"
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ${APT_PACKAGES} >/dev/null \
 && rm -rf /var/lib/apt/lists/*

# Volumes take their owner from these folders.
RUN groupadd --gid 50000 slipway \
 && useradd --uid 50000 --gid slipway --home-dir /var/lib/slipway --shell /usr/sbin/nologin slipway \
 && install -d -o slipway -g slipway -m 0750 \
    /var/lib/slipway /var/lib/airflow /var/lib/airflow/logs /var/lib/mlflow /var/lib/model-host

# The lock files alone, so that a change of the code installs nothing anew.
COPY requirements.txt requirements-production.txt /opt/slipway/
RUN python3 -m venv /opt/slipway/venv \
 && /opt/slipway/venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    "$(grep -oE '^uv==[^ ;]+' /opt/slipway/requirements.txt)" \
 && /opt/slipway/venv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/slipway/venv/bin/python \
    --requirement /opt/slipway/requirements.txt --requirement /opt/slipway/requirements-production.txt

COPY plugins /opt/slipway/plugins
COPY include /opt/slipway/include
COPY dags /opt/slipway/dags
RUN /opt/slipway/venv/bin/python -m compileall -q /opt/slipway/plugins /opt/slipway/include

ENV PATH=/opt/slipway/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    AIRFLOW_HOME=/var/lib/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/slipway/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/slipway/plugins PYTHONPATH=/opt/slipway/plugins \
    SLIPWAY_HOME=/var/lib/slipway \
    SLIPWAY_UV=/opt/slipway/venv/bin/uv
LABEL org.opencontainers.image.title="Slipway" \
      org.opencontainers.image.description="Airflow with Slipway's DAGs, an MLflow server and the model host"
USER 50000:50000
WORKDIR /var/lib/slipway
