"""What a policy is compared with; one file a model. Same features, same split, greedy."""

from model.baselines import (
    cmr,
    dlcm,
    eg_rerank,
    initial_order,
    item_ctr,
    lambdamart,
    mir,
    nar4rec,
    prm,
    seq2slate,
    setrank,
)
from model.baselines.task import Rank

BASELINES: dict[str, Rank] = {
    "initial order": initial_order.rank,
    "item CTR": item_ctr.rank,
    "LambdaMART": lambdamart.rank,
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
