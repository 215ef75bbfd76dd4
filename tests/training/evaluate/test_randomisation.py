"""A map must change with the weights. A map that shows only the picture is found."""

import torch

from tests.training import blobs
from training.evaluate.randomisation import (
    MAX_RANK_CORRELATION,
    Explainer,
    compute_rank_correlation,
    find_randomisation_doubts,
    make_gradcam_explainer,
    measure_randomisation,
    shuffle_weights,
)


def figures(explain: Explainer) -> dict[str, object]:
    lesson = blobs.lesson()
    image = torch.from_numpy(lesson.seen.pictures[:16])
    target = torch.from_numpy(lesson.answers[:16, None])
    return measure_randomisation(lesson.model, explain, image, target)


def test_a_map_changes_as_weights_are_shuffled() -> None:
    """Layers are shuffled from the top down, and the network itself is not changed."""
    before = blobs.explained(blobs.lesson().model, blobs.lesson().seen.pictures)[1]
    found = figures(make_gradcam_explainer(blobs.LAYER))
    steps = found["steps"]
    assert isinstance(steps, list)
    assert [step["layer"] for step in steps] == ["fc", "features.2", "features.0"]
    assert steps[-1]["rank"] < MAX_RANK_CORRELATION
    assert steps[-1]["ssim"] < 0.7
    assert find_randomisation_doubts(found) == []
    after = blobs.explained(blobs.lesson().model, blobs.lesson().seen.pictures)[1]
    assert (before == after).all()  # the network itself is left alone


def test_a_map_that_ignores_the_network_is_found() -> None:
    """One doubt says so."""

    def brightness(_: torch.nn.Module, image: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
        return image.float().mean(3)

    found = figures(brightness)
    assert [step["rank"] for step in found["steps"]] == [1, 1, 1]  # type: ignore[attr-defined]
    [doubt] = find_randomisation_doubts(found)
    assert "when every weight is shuffled" in doubt


def test_constant_maps_leave_the_correlation_undefined() -> None:
    """It is not 0, which would pass the test. A map that becomes constant has lost all."""
    flat, wavy = torch.zeros(3, 4, 4), torch.arange(48.0).reshape(3, 4, 4)
    assert compute_rank_correlation(flat, wavy) is None
    assert compute_rank_correlation(wavy, flat) == 0
    half = torch.cat([flat[:1], wavy[1:]])
    assert compute_rank_correlation(half, wavy) == 1
    found = figures(lambda _, image, __: torch.zeros(len(image), 4, 4))
    assert found["others"] is None
    [doubt] = find_randomisation_doubts(found)
    assert doubt == "all maps are constant, so shuffled weights could not be tried"


def test_shuffling_keeps_the_values_of_the_weights() -> None:
    """The channels of a norm keep their statistics."""
    norm = torch.nn.BatchNorm2d(50)
    torch.nn.init.normal_(norm.weight)
    assert norm.running_mean is not None
    norm.running_mean.copy_(norm.weight.detach())
    before = norm.weight.detach().clone()
    shuffle_weights(norm, torch.Generator().manual_seed(0))
    assert not torch.equal(norm.weight, before)
    assert torch.equal(norm.weight.sort()[0], before.sort()[0])
    assert torch.equal(norm.running_mean, norm.weight)
