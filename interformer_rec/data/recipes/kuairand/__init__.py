"""KuaiRand: its raw files become training rows."""
