"""Which items stand in a batch: one file per way of drawing, behind `features.samplers.pool.Sampler`."""
