"""The pictures of the report, one file each; `drawing` is what they share."""
