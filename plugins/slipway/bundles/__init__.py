"""The intake of bundles: open an archive, check it, lock its requirements, probe it in isolation, store it.

Plain functions without Airflow operators; `slipway.bundles.intake` is the way in. Importing this package costs
nothing: pydantic, picklescan and Airflow's object storage are imported where they are used.
"""
