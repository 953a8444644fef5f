"""Charts of the report page, one file each; `common` and `svg` are shared."""
