"""An encoder: a perceptron for items of one dimension."""

from dataclasses import dataclass

from torch import nn

from meshgnn.config import Config


class Perceptron(nn.Module):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        out_channels: int = 4

        def build(self, shape):
            return Perceptron(self, shape)

    level = "node"

    def __init__(self, config, shape):
        super().__init__()
        self.config, self.out_channels = config, config.out_channels
        self.layers = nn.Sequential(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, config.out_channels))

    def forward(self, inputs):
        return self.layers(inputs)

    def identity(self):
        return {"encoder": "Perceptron", "sum": float(sum(p.detach().sum() for p in self.parameters()))}
