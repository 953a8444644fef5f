"""A web page to draw digits on, and an HTTP endpoint for programs; both run on the board."""
