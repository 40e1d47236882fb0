"""ELECTRA with `embedding_size == hidden_size`: BERT's body without a pooler, its own heads."""

from __future__ import annotations

from dataclasses import replace

from narrows.transformer.bert import BERT
from narrows.transformer.family import Tail

ELECTRA = replace(
    BERT,
    model_type="electra",
    tails={
        "ForSequenceClassification": (Tail("classifier.dense", "read"), Tail("classifier.out_proj", "free")),
        "ForTokenClassification": (Tail("classifier", "read", per_token=True),),
        "ForQuestionAnswering": (Tail("qa_outputs", "read", per_token=True),),
        "ForPreTraining": (
            Tail("discriminator_predictions.dense", "transform", per_token=True),
            Tail("discriminator_predictions.dense_prediction", "read", per_token=True),
        ),
        "ForMaskedLM": (
            Tail("generator_predictions.dense", "transform", per_token=True),
            Tail("generator_predictions.LayerNorm", "norm", per_token=True),
            Tail("generator_lm_head", "table", per_token=True),
        ),
        "Model": (),
    },
)
