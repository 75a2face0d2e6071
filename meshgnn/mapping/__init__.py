"""Mapping in the browser: a mapper draws areas on some sections, engines fill the rest. `python -m meshgnn.mapping`."""
