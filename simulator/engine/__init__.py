"""Event loops: ask the policy for a batch, spend its time, advance the replica."""
