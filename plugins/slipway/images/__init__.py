"""Scoring images: what is in one, what that makes its tag, and how one gets into a registry."""

from slipway.images.identity import image_tag

__all__ = ["image_tag"]
