"""A world that is fitted in seconds, for the grid."""

from evidence.data import Data

TINY = Data(
    "tiny",
    "simulator",
    "true_value",
    changes={
        "simulator": {"items": 80, "lists": 300},
        "policy": {"width": 16, "encoder": {"token_width": 4}},
        "evaluator": {"width": 16, "members": 2, "epochs": 2, "batch": 32},
        "imitation": {"epochs": 1, "beams": 2, "batch": 32},
        "expert_iteration": {"rounds": 3, "epochs": 1, "batch": 32},
    },
    known=True,
    controls=True,
)
