"""Export of a checkpoint to deployable files: one converter per file format."""
