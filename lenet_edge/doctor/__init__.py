"""What keeps a machine from its job, found by trying: causes, fixes, and where they are written."""
