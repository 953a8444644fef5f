"""Networks as C: times and instruction counts, one module for each kind of machine."""

from benchmarks.record import ROOT

CHECKPOINT = ROOT / "exported" / "lenet.keras"
