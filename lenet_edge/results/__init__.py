"""Results: measurements, parity reports, their statistics, and the files that hold them."""
