"""Model files: the artifact and its manifest, the contract inside it, and the reference logits."""
