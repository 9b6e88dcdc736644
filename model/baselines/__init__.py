"""What a policy is compared with; one file a model. Same features, same split, greedy."""

from model.baselines import initial_order, item_ctr, lambdamart
from model.baselines.task import Rank

BASELINES: dict[str, Rank] = {
    "initial order": initial_order.rank,
    "item CTR": item_ctr.rank,
    "LambdaMART": lambdamart.rank,
}
"""By the name they have in tables."""
