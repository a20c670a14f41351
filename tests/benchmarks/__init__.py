"""The benchmark suite: each module measures one thing against what it is compared with."""
