"""Make Airflow's administrator, whose password is in a file: `airflow users create` wants it on the command line.

A password that was changed in the file is changed in Airflow, too.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

_LOGIN = "admin"
_PASSWORD = Path("/run/secrets/airflow_admin_password")


def main() -> None:
    """Make or update the user."""
    password = _PASSWORD.read_text().strip()
    with get_application_builder() as builder:
        users = builder.sm
        found = users.find_user(username=_LOGIN)
        if found:
            users.reset_password(found.id, password)
        elif not users.add_user(_LOGIN, "Slipway", "Admin", "admin@localhost", users.find_role("Admin"), password):
            sys.exit("Airflow's administrator could not be made: see the lines above.")
    logging.getLogger(__name__).info("Airflow's administrator is '%s'.", _LOGIN)


if __name__ == "__main__":
    main()
