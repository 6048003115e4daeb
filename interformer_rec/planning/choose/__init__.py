"""What a planner may decide beside where tables lie: how vectors travel, how wide column pieces are."""
