"""Model files with their manifests and contracts, and the reference logits."""
