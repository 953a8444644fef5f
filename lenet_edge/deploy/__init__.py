"""From the desk to a board: a bundle of files, an SSH connection, and what runs at its far end."""
