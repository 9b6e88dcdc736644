"""What a policy is compared with; one file a model. Same features, same split, greedy."""

from model.baselines import (
    cmr,
    dlcm,
    eg_rerank,
    initial_order,
    initial_score,
    item_ctr,
    lambdamart,
    mir,
    nar4rec,
    pointwise,
    prm,
    seq2slate,
    setrank,
)
from model.baselines.task import Rank

BASELINES: dict[str, Rank] = {
    "initial order": initial_order.rank,
    "initial score alone": initial_score.rank,
    "item CTR": item_ctr.rank,
    "LambdaMART": lambdamart.rank,
    "LambdaMART without the initial score": lambdamart.rank_plain,
    "LambdaMART with all columns": lambdamart.rank_all_columns,
    "pointwise": pointwise.rank,
    "DLCM": dlcm.rank,
    "PRM": prm.rank,
    "SetRank": setrank.rank,
    "MIR": mir.rank,
    "Seq2Slate": seq2slate.rank,
    "NAR4Rec-like": nar4rec.rank,
    "EG-Rerank": eg_rerank.rank,
    "CMR-style": cmr.rank,
}
"""By the name they have in tables."""
