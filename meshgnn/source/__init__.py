"""Where data come from: section stacks, surface folders, the virtual brain. numpy only."""
