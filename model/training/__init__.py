"""How the policy and its evaluator are trained: configuration, phases, losses, rollouts, checkpoints."""
