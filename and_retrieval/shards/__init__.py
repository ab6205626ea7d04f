"""Work in shards: a plan is cut into shards, each leaves a file and a receipt, and a merge makes the result of them."""
