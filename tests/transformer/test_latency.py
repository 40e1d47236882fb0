import torch

from narrows.transformer.latency import measure_latency


def test_models_with_few_positions_are_measured_on_texts_that_fit(rough):
    longer, short = rough("bert"), rough("roberta", max_position_embeddings=12)  # RoBERTa: 10 texts' positions
    lengths = []
    hook = short.register_forward_pre_hook(lambda _, __, k: lengths.append(k["input_ids"].shape[1]), with_kwargs=True)
    try:
        times = measure_latency([longer, short], runs=2)
    finally:
        hook.remove()
    assert set(lengths) == {12 - short.config.pad_token_id - 1}
    assert all(t[batch] > 0 for t in times for batch in ("1", "32"))
    assert torch.is_grad_enabled()
