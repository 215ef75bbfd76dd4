"""Configs are read and changed exactly, and refused in one sentence when a setting is not valid."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.config import Config
from training.config_file import CONFIGS, load_config
from training.errors import UserError
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

HEADER = """from training.config import Config
from training.imaging.preprocessing import Input

"""
LENET = "CONFIG = Config('x', 'lenet5', 'mnist', Input('L', 28, 28, 28, mean=(0.0,), std=(1.0,)),"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_bundled_config_loads_and_states_its_command(path: Path) -> None:
    """By name and by path, with the command in its docstring."""
    assert load_config(path.stem) == load_config(str(path))
    assert f"python -m training fit {path.stem}" in path.read_text()


def test_a_config_survives_json() -> None:
    """A checkpoint stores a config as JSON and gets the same config back."""
    config = load_config("lenet5")
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_set_changes_fields_and_parts_of_fields() -> None:
    """Numbers, words, parts of input, augment and options, and text that looks like a number."""
    changes = ["epochs=3", "optimizer=sgd", "augment.shift=0.5", "options.activation=relu"]
    changes += ["options.pooling=max", "input.mean=[0.5]", "name=2026", "layer=None"]
    config = load_config("lenet5", changes)
    assert (config.epochs, config.optimizer, config.augment.shift) == (3, "sgd", 0.5)
    assert config.options == {"activation": "relu", "pooling": "max"}
    assert (config.input.mean, config.name, config.layer) == ((0.5,), "2026", None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("epochs=ten", '`epochs` must be an integer of at least 1, got "ten".'),
        ("epochs=0", "`epochs` must be an integer of at least 1, got 0."),
        ("epochs=1.5", "`epochs` must be an integer of at least 1, got 1.5."),
        ("epochs=True", "`epochs` must be an integer of at least 1, got True."),
        ("batch_size=-3", "`batch_size` must be an integer of at least 1, got -3."),
        ("precision=bf61", '`precision` must be fp32, bf16 or fp16, got "bf61".'),
        ("task=multi", '`task` must be multiclass, multilabel or segmentation, got "multi".'),
        ("momentum=2", "`momentum` must be a number of at least 0 and below 1, got 2."),
        ("average=2", "`average` must be a number of at least 0 and below 1, got 2."),
        ("validation=1.0", "`validation` must be a number of at least 0 and below 1, got 1.0."),
        ("learning_rate=-0.1", "`learning_rate` must be a number above 0, got -0.1."),
        ("learning_rate=fast", '`learning_rate` must be a number above 0, got "fast".'),
        ("learning_rate=1e999", "`learning_rate` must be a number above 0, got inf."),
        ("dropout=2", "`dropout` must be a number of at least 0 and below 1, got 2."),
        ("label_smoothing=2", "`label_smoothing` must be a number of at least 0 and below 1,"),
        ("seed=-1", "`seed` must be an integer from 0 to 4294967295, got -1."),
        ("device=gpu", '`device` must be auto, cpu, mps, cuda or cuda:<index>, got "gpu".'),
        ("optimizer=lion", '`optimizer` must be adam, adamw, sgd or rmsprop, got "lion".'),
        ("schedule=zigzag", "`schedule` must be constant, step, cosine, exponential or onecycle,"),
        ("loss=hinge", '`loss` must be cross_entropy or focal, got "hinge".'),
        ("layer=3", "`layer` must be text or None, got 3."),
        ("options=3", "`options` must be a dictionary, got 3."),
        ("input=3", "`input` must be Input(...), got 3."),
        ("input.height=0", "`input.height` must be an integer of at least 1, got 0."),
        ("input.mode=rgb", '`input.mode` must be L or RGB, got "rgb".'),
        ("input.interpolation=cubic", "`input.interpolation` must be nearest, bilinear, bicubic"),
        ("input.std=[0]", "`input.std` must be a tuple of numbers above 0, got 0."),
        ("augment.padding=zero", "`augment.padding` must be zeros, border or reflection,"),
        ("augment.flip=yes", '`augment.flip` must be True or False, got "yes".'),
        ("augment.shift=2", "`augment.shift` must be a number from 0 to 1, got 2."),
        ("epoch=1", "There is no setting `epoch`. Did you mean `epochs`?"),
        ("input.heigth=1", "There is no setting `input.heigth`. Did you mean `input.height`?"),
        ("augment.spin=1", "There is no setting `augment.spin`. Accepted are: resized_crop, crop,"),
        ("zzz=1", "There is no setting `zzz`. Accepted are: name, architecture, data,"),
        ("epochs.x=1", "`epochs` has no parts. Set it with --set epochs=<value>."),
        ("epochs", "--set must be key=value, got 'epochs'."),
        ("name=My Model", "`name` must be of a-z, 0-9, '.', '_' and '-' and begin with a letter"),
        ("input.mode=RGB", "`input.mean` must be 3 numbers for mode RGB, got (0.0,)."),
        ("task=multilabel", "task=multilabel needs a CSV file with a column of 0 and 1 per label,"),
    ],
)
def test_an_invalid_change_is_one_sentence(change: str, sentence: str) -> None:
    """With the setting, the value given and what is accepted."""
    with pytest.raises(UserError) as refused:
        load_config("lenet5", [change])
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        ["one_neuron=True", "loss=focal"],
        ["data=x.csv", "task=multilabel", "loss=focal"],
        ["data=x.csv", "task=multilabel", "one_neuron=True"],
        ["data=x.csv", "task=multilabel", "label_smoothing=0.1"],
        ["loss=focal", "label_smoothing=0.1"],
        ["augment.rand_augment=9", "augment.trivial_augment=True"],
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(changes: list[str]) -> None:
    """A loss or a smoothing that the chosen task does not use."""
    with pytest.raises(UserError, match="cannot be combined"):
        load_config("lenet5", changes)


@pytest.mark.parametrize(
    ("config", "changes", "sentence"),
    [
        ("lenet5", ["augment.mixup=0.2", "loss=focal"], "augment.mixup needs task=multiclass"),
        ("xray", ["augment.cutmix=1"], "augment.cutmix needs task=multiclass with loss="),
        ("nuclei", ["augment.mixup=0.2"], "augment.mixup needs task=multiclass"),
        ("nuclei", ["augment.rand_augment=9"], "augment.rand_augment changes no masks"),
        ("nuclei", ["augment.erase=0.5"], "augment.erase changes no masks"),
        ("nuclei", ["augment.resized_crop=0.5"], "augment.crop and augment.resized_crop cannot"),
        ("eurosat", ["augment.crop=32"], "augment.crop=32 is for task=segmentation"),
    ],
)
def test_augmentation_that_does_not_suit_is_refused(
    config: str, changes: list[str], sentence: str
) -> None:
    """A change that the labels or the loss cannot follow."""
    with pytest.raises(UserError) as refused:
        load_config(config, changes)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"{HEADER}{LENET} epochs=0)", "line 4: `epochs` must be an integer of at least 1, got 0."),
        (f"{HEADER}{LENET} epocs=3)", "line 4: There is no setting `epocs`. Did you mean `epochs`"),
        (f"{HEADER}CONFIG = Config('x')", "line 4: `architecture` is missing. It must be text."),
        (f"{HEADER}CONFIG = Config(7)", "line 4: `name` must be text, got 7."),
        (f"{HEADER}\nx = Imput()", "line 5: NameError: name 'Imput' is not defined"),
        ("import nowhere_at_all", "line 1: ModuleNotFoundError: No module named"),
        (f"{HEADER}CONFIG = Config('x', )(", "line 4: '(' was never closed."),
        ("x = 1", " does not define `CONFIG = Config(...)`."),
    ],
)
def test_a_mistake_in_a_config_file_names_file_and_line(
    tmp_path: Path, content: str, sentence: str
) -> None:
    """A wrong setting, a typo, a syntax error, a missing CONFIG."""
    file = tmp_path / "mine.py"
    file.write_text(content + "\n")
    with pytest.raises(UserError) as refused:
        load_config(str(file))
    assert (
        str(refused.value)
        .replace(f"{file}, ", "", 1)
        .replace(str(file), "", 1)
        .startswith(sentence)
    )


def test_an_unknown_config_lists_the_bundled_ones() -> None:
    """Their names are in the sentence."""
    with pytest.raises(UserError, match=r"There is no config 'nothere'. .* lenet5"):
        load_config("nothere")


def test_settings_are_checked_in_code_as_well() -> None:
    """`replace` and the constructors refuse what a file may not hold."""
    with pytest.raises(UserError, match="`epochs` must be an integer of at least 1, got -1"):
        replace(load_config("lenet5"), epochs=-1)
    with pytest.raises(UserError, match=r"`input.width` must be an integer of at least 1, got 0"):
        Input(width=0)
    with pytest.raises(UserError, match=r"`augment.rotate` must be a number from 0 to 180"):
        Augmentation(rotate=-5)


def test_a_stored_config_loads_with_settings_that_are_refused_today() -> None:
    """A checkpoint with a name or a loss that a new run may not have still loads."""
    stored = load_config("lenet5").to_json() | {"name": "My Model", "loss": "focal"}
    assert Config.from_json(stored | {"one_neuron": True}).name == "My Model"
