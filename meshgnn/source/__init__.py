"""Where data come from: readers of files into records. numpy only."""
