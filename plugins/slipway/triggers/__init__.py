"""Triggers: the waits of the operators, in the triggerer, where no worker slot is held."""
