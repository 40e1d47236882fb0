"""What layers answer: against running the parts by hand, in evaluation mode, and with modes and hooks put back."""

import pytest
import torch
from torch import nn

from narrows.core.errors import DataError, ModelError
from narrows.information import layer_activations


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.drop(self.norm(self.conv(x)))
        return self.head(x.mean(dim=(2, 3)))


def test_they_are_what_the_parts_answer_in_evaluation_mode():
    net, x = Net().train(), torch.randn(7, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    net.norm.eval()
    found = layer_activations(net, ["norm", "head"], [x[:4], x[4:]])
    assert net.training
    assert net.drop.training
    assert not net.norm.training
    assert net.norm.num_batches_tracked == 0
    net.eval()
    normed = net.norm(net.conv(x))
    assert torch.allclose(found["norm"], normed.mean(dim=(2, 3)), atol=1e-6)
    assert torch.allclose(found["head"], net(x), atol=1e-6)
    assert not found["head"].requires_grad
    flat = layer_activations(net, ["norm"], [x], pool="flat")["norm"]
    assert torch.allclose(flat, normed.flatten(1), atol=1e-6)


def test_tokens_are_averaged_and_the_call_is_the_users():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(layer).eval()
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    found = layer_activations(net, ["0.linear1", "0"], [{"words": x}], call=lambda model, batch: model(batch["words"]))
    assert found["0.linear1"].shape == (3, 16)
    assert torch.allclose(found["0"], net(x).mean(dim=1), atol=1e-6)


def test_of_many_modules_the_nearest_names_are_shown():
    net = nn.Module()
    net.body = nn.ModuleList(nn.Sequential(*(nn.Identity() for _ in range(5))) for _ in range(20))
    with pytest.raises(ModelError, match=r"there are body\.7\.3, .* and 105 more$") as error:
        layer_activations(net, ["7.3"], [torch.zeros(2, 2)])
    assert len(str(error.value)) < 200


def test_what_cannot_be_collected_is_refused_and_hooks_go():
    net, x = Net(), torch.zeros(2, 3, 6, 6)
    with pytest.raises(ModelError, match="no module is called 'nrm'; there are conv, norm, drop, head"):
        layer_activations(net, ["nrm"], [x])
    with pytest.raises(DataError, match="no batches"):
        layer_activations(net, ["norm"], [])
    with pytest.raises(ModelError, match="answered 0 times in 1 batches"):
        layer_activations(net, ["norm"], [x], call=lambda model, batch: None)
    with pytest.raises(ModelError, match="not with a tensor"):
        layer_activations(Pair(), ["inner"], [x])
    assert not any(module._forward_hooks for module in net.modules())
    assert net.training


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Dictionary()

    def forward(self, x):
        return self.inner(x)


class Dictionary(nn.Module):
    def forward(self, x):
        return {"x": x}
