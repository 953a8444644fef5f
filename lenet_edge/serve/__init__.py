"""A page to draw a digit on, and an endpoint for programs; it runs on the board itself."""
