"""BERT: post-LayerNorm encoder with a pooler."""

from __future__ import annotations

from narrows.transformer.family import Family, Tail

POOLER = Tail("pooler.dense", "read", in_base=True)

BERT = Family(
    model_type="bert",
    layers="encoder.layer",
    word="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    token_types="embeddings.token_type_embeddings",
    embedding_norm="embeddings.LayerNorm",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    ffn_in="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    ffn_out="output.dense",
    ffn_norm="output.LayerNorm",
    tails={
        "ForSequenceClassification": (POOLER, Tail("classifier", "free")),
        "ForTokenClassification": (Tail("classifier", "read", per_token=True),),
        "ForQuestionAnswering": (Tail("qa_outputs", "read", per_token=True),),
        "ForMaskedLM": (
            Tail("cls.predictions.transform.dense", "transform", per_token=True),
            Tail("cls.predictions.transform.LayerNorm", "norm", per_token=True),
            Tail("cls.predictions.decoder", "table", per_token=True),
            Tail("cls.predictions", "table", per_token=True),  # its bias is the decoder's only where tables are tied
        ),
        "Model": (POOLER,),
    },
)
