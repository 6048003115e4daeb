"""What lies in an exported model's folder beside the versions themselves: manifests, the pointer, deltas."""
