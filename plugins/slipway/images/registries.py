"""The registries that images are pushed to, by the names that users give."""

from __future__ import annotations

from slipway.hooks.registry_v2 import ImageRegistry, RegistryClient

__all__ = ["client_of", "open_registry"]


def open_registry(name: str) -> ImageRegistry:
    """Return the registry `ecr` (or `ecr:<region>`), `acr`, or that of a docker connection."""
    kind, _, region = name.partition(":")
    if kind == "ecr":
        from slipway.hooks.ecr import EcrRegistryHook

        return EcrRegistryHook(region=region or None)
    if name == "acr":
        from slipway.hooks.acr import AcrRegistryHook

        return AcrRegistryHook()
    from slipway.hooks.registry import DockerRegistryHook

    return DockerRegistryHook(name)


def client_of(registry: ImageRegistry, name: str) -> RegistryClient:
    """Return the client that looks up images in a registry.

    :param name: the registry's name, for the errors.
    """
    source = {"ecr": "the AWS connection", "acr": "the Azure connection"}.get(
        name.partition(":")[0], f"connection '{name}'"
    )
    return RegistryClient(registry.url, registry.login, source)
