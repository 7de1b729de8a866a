"""The words of the report, a sentence each."""

from __future__ import annotations

from medmoe_cli.core.reporting.page import Terms

GLOSSARY = Terms(
    meanings=(
        (
            "Dice",
            "How much two masks overlap: twice the common volume divided by the sum of both; 1 is identical, 0 has "
            "nothing in common. Small structures lose much Dice to a rim of one voxel.",
        ),
        (
            "HD95 (95 % Hausdorff distance)",
            "95 % of the outline lies within this distance of the other outline, in millimetres; 0 is perfect, and one "
            "far-off island makes it large.",
        ),
        (
            "NSD (normalised surface Dice)",
            "The share of both outlines that lies within the tolerance (given in the table) of the other: what a "
            "reader who accepts such a deviation would not correct; 1 is perfect.",
        ),
        (
            "Volume error",
            "Predicted minus reference volume, in millilitres and in percent of the reference: positive is too large.",
        ),
        (
            "95 % CI (confidence interval)",
            "The mean is known only as well as a few cases allow: of 100 such ranges, each from other patients of the "
            "same kind, about 95 hold the true mean. It is wide when there are few cases.",
        ),
        (
            "Reference",
            "The outlines that the prediction is compared with, drawn by people (or with their help); not "
            "the truth itself.",
        ),
        (
            "Validation case",
            "A case that the model did not learn from; it only helped to choose which epoch's weights to keep.",
        ),
        (
            "Token, layer, query",
            "A token is one of the small squares that a picture is cut into for the network; layers look at it one "
            "after another; a query asks for one structure.",
        ),
        (
            "Presence",
            "How likely the model finds it that what was asked for by its name is in the picture at all. Below the "
            "model's threshold the mask stays empty.",
        ),
        (
            "Stage",
            "A part of the training in which some of the network learns and the rest stays as it is.",
        ),
        (
            "Expert, router",
            "An expert is a part of the network that works on some inputs only; the router decides who works on what.",
        ),
    )
)
