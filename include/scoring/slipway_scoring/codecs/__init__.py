"""The formats: how bytes become a payload and predictions become bytes, one module a format."""
