"""Export: from a checkpoint to the files that are shipped, one file here for each format."""
