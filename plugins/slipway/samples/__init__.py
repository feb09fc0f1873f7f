"""Sample code for an endpoint: what a user copies, pastes and gets predictions from."""

from slipway.samples.render import render

__all__ = ["render"]
