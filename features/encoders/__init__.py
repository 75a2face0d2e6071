"""Encoders: one file each, behind `meshgnn.encoder.Encoder`."""
