"""What a mapping server is made of: engines by name, and what reads meshes. Names concrete classes of no wing."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.mapping.socket import Engine
from meshgnn.sockets import MeshMaker


class Setup:
    """
    Attributes:
        maker: reads meshes.
        engines: by name (`Engine.name`), in the order in which a mapper is offered them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            mesh: config of a `meshgnn.sockets.MeshMaker`.
            engines: configs of engines.
        """

        mesh: Any = None
        engines: tuple[Any, ...] = ()

        def build(self) -> "Setup":
            return Setup(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.maker: MeshMaker | None = config.mesh.build() if config.mesh is not None else None
        built: list[Engine] = [one.build() for one in config.engines]
        names = [engine.name for engine in built]
        if len(set(names)) < len(names):
            raise SettingError(f"<engines>: two are called {max(names, key=names.count)!r}")
        self.engines: Mapping[str, Engine] = MappingProxyType(dict(zip(names, built)))
