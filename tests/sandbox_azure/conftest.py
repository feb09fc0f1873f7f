"""A running Azure sandbox, and models that answer their own version."""

from tests.sandbox_azure.sandboxes import environments, models, running_azure, sandbox

__all__ = ["environments", "models", "running_azure", "sandbox"]
