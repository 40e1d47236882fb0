"""RoBERTa: BERT's body, its own heads."""

from __future__ import annotations

from dataclasses import replace

from narrows.transformer.bert import BERT, POOLER
from narrows.transformer.family import Tail

ROBERTA = replace(
    BERT,
    model_type="roberta",
    tails={
        "ForSequenceClassification": (Tail("classifier.dense", "read"), Tail("classifier.out_proj", "free")),
        "ForTokenClassification": (Tail("classifier", "read", per_token=True),),
        "ForQuestionAnswering": (Tail("qa_outputs", "read", per_token=True),),
        "ForMaskedLM": (
            Tail("lm_head.dense", "transform", per_token=True),
            Tail("lm_head.layer_norm", "norm", per_token=True),
            Tail("lm_head.decoder", "table", per_token=True),
            Tail("lm_head", "table", per_token=True),  # its bias is the decoder's only where tables are tied
        ),
        "Model": (POOLER,),
    },
)
