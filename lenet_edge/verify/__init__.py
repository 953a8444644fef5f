"""Verify: is the exported file, on this runtime, still right?"""
