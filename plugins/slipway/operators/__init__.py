"""Operators: each wraps one call of a service, or one step of the domain."""
