"""Several brains on one mesh: values carried there and back, and maps of how often an area lies where."""
