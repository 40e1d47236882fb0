"""DistilBERT: BERT's body under other names, without token types and pooler."""

from __future__ import annotations

from narrows.transformer.family import Family, Tail

DISTILBERT = Family(
    model_type="distilbert",
    layers="transformer.layer",
    word="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    token_types=None,
    embedding_norm="embeddings.LayerNorm",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_out="attention.out_lin",
    attention_norm="sa_layer_norm",
    ffn_in="ffn.lin1",
    activation="ffn.activation",
    ffn_out="ffn.lin2",
    ffn_norm="output_layer_norm",
    tails={
        "ForSequenceClassification": (Tail("pre_classifier", "read"), Tail("classifier", "free")),
        "ForTokenClassification": (Tail("classifier", "read", per_token=True),),
        "ForQuestionAnswering": (Tail("qa_outputs", "read", per_token=True),),
        "ForMaskedLM": (
            Tail("vocab_transform", "transform", per_token=True),
            Tail("vocab_layer_norm", "norm", per_token=True),
            Tail("vocab_projector", "table", per_token=True),
        ),
        "Model": (),
    },
)
