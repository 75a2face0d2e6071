"""Encoder and graph network trained together: the gradient of the network's loss reaches the encoder's weights."""
