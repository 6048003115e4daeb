"""Our sharding planner beside TorchRec's, with both objectives."""
