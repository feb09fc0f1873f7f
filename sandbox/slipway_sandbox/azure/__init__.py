"""A local Azure: what azure-identity and azure-ai-ml's `MLClient` call, over HTTPS, with models that really serve."""
