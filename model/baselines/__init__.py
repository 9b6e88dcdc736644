"""What a policy is compared with; one file a model. Same features, same split, greedy.

Each has `rank(train, held_out, test, columns, seed)`: fit on `train`, choose on `held_out`, and return a
slate of candidate indices for each list of `test`. `columns` names the columns of `candidate_numeric`.
"""
