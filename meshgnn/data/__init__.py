"""From a brain to arrays that a model takes: node inputs, splits, leak counts. numpy only."""
