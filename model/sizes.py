"""Sizes of the encoder's inputs, read off the features that write them."""

from bundle.features.assembly import FeatureAssembler
from model.encoder import FeatureSizes


def feature_sizes(features: FeatureAssembler) -> FeatureSizes:
    return FeatureSizes(
        numeric=len(features.candidate_columns),
        item_numeric=len(features.item_columns),
        slot_fields=tuple(features.slot_fields),
        user_numeric=features.user_columns,
        user_slots=features.user_slots,
        vocabulary=features.fitted.vocabulary_size,
        initial_score=features.initial_score_column,
    )
