"""What is learned, and how: features, policy, evaluator, training. Knows nothing of export or serving."""
