"""A front door that stands alone in a container, before the scoring servers of one endpoint.

They meet in a shared folder: each server listens there on `<deployment>.sock`, and `state.json` says which of them is
live. So a redeploy is one assignment in the door, and no client notices.
"""
