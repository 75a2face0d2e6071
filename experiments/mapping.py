"""Mapping in the browser: the engines that fill areas in."""

from meshgnn.mapping.config import MappingServer


def mapping() -> MappingServer.Config:
    """The page for drawing areas on sections: `python -m meshgnn.mapping STACK` (it has no stages)."""
    return MappingServer.Config()
