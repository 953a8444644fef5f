"""Report: results turned into what a person reads, and into one piece of advice."""
