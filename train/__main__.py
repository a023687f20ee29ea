"""The command line: ``python -m train`` trains, ``evaluate RUN`` measures a run again, ``calibrate RUN``
fits its temperature on other photos, ``curve RUN`` plots its error, ``predict RUN PHOTO`` uses it.

fastai is imported after the arguments are parsed, so that ``--help`` responds at once.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from .errors import TrainingError, one_line
from .recipe import LABELS

_PATH = click.Path(path_type=Path)
_LIBRARIES = r"(torch|torchvision|fastai|fastcore|timm|accelerate|efficientnet_lite_pytorch)(\.|$)"


class _Group(click.Group):
    """Print what stops a run as one line, and exit with 2; with 130 after Ctrl-C."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=_LIBRARIES)  # deprecations that only these can fix
                return super().invoke(context)
        except TrainingError as error:
            message = str(error).rpartition("\n")[2].strip()  # fastai puts a line before what a callback raises
            _stop(context, f"Error: {message}", 2)
        except KeyboardInterrupt:
            _stop(context, "\nstopped by Ctrl-C; --resume continues after the last checkpoint", 130)
        except BrokenPipeError:
            raise
        except OSError as error:
            _stop(context, f"Error: {one_line(error)} (check the disk's free space and permissions)", 2)


def _stop(context: click.Context, message: str, code: int) -> None:
    click.echo(message, err=True)
    context.exit(code)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--data", multiple=True, type=_PATH, help="Folder of photos; repeat it for several."
              "  [default: download Oxford-IIIT Pets]")  # fmt: skip
@click.option("--test", type=_PATH, help="Folder of photos to evaluate on as well; never trained on.")
@click.option("--weights", type=_PATH, help="Starting weights (.safetensors).  [default: download ImageNet's]")
@click.option("--out", type=_PATH, help="Folder for this run's files.", show_default=True, default=Path("runs/pets"))
@click.option("--recipe", "recipe_file", type=_PATH, help="Settings from a recipe.json; options override them.")
@click.option("--labels", type=click.Choice(sorted(LABELS)), help="Take labels from the file's name (species, breed)"
              " or its folder.  [default: species]")  # fmt: skip
@click.option("--arch", help="Architecture: any that vision_learner takes.  [default: resnet34]")
@click.option("--epochs", type=click.IntRange(0), help="Epochs with the whole network.  [default: 1]")
@click.option("--freeze-epochs", type=click.IntRange(0), help="Epochs with the body frozen, first.  [default: 1]")
@click.option("--lr", type=float, help="fine_tune's base learning rate.  [default: 0.002]")
@click.option("--find-lr", is_flag=True, help="Run fastai's lr_find and save its plot instead of training.")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 64]")
@click.option("--seed", type=int, help="Seed of the split and of training.  [default: 42]")
@click.option("--augment", is_flag=True, default=None, help="Use fastai's aug_transforms().")
@click.option("--linear", is_flag=True, default=None, help="Train one linear layer on the features of the unchanged"
              " body: minutes on a CPU.")  # fmt: skip
@click.option("--calibrate", is_flag=True, default=None, help="Fit a temperature on the validation photos, and fold it"
              " into the last layer.")  # fmt: skip
@click.option("--split", "split_file", type=_PATH, help="Use the split.json of another run.")
@click.option("--hold-out-source", "hold_out", multiple=True, metavar="SOURCE", help="Validate on all photos of this"
              " source instead of a random split; repeat it for several. A source is a folder, or see --sources.")  # fmt: skip
@click.option("--sources", type=_PATH, help="Table (.tsv) with each photo's source: columns name and repository.")
@click.option("--unfamiliar", type=_PATH, help="Photos of none of the classes: train the answers on them towards even"
              " odds.")  # fmt: skip
@click.option("--without", type=_PATH, help="Leave out the photos in this list: one file name or path a line.")
@click.option(
    "--per-source", type=click.IntRange(1), help="Use at most this many photos of each source; see --sources."
)
@click.option("--limit", type=click.IntRange(2), help="Use only this many photos, for a quick trial.")
@click.option("--resume", is_flag=True, help="Continue the run in --out after its last checkpoint.")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Train an image classifier, as fastai's lesson does."""
    if context.invoked_subcommand is not None:
        return
    from .options import Options
    from .stages import train_in_stages

    names = Options.__dataclass_fields__
    own = {name: value for name, value in options.items() if name in names}
    settings = {name: value for name, value in options.items() if name not in names and value is not None}
    if not train_in_stages(Options(**own, settings=settings)):
        context.exit(130)


@main.command("evaluate")
@click.argument("run", type=_PATH)
@click.option("--data", multiple=True, type=_PATH, help="Folder of the run's photos.  [default: where they were]")
@click.option("--test", type=_PATH, help="Folder of photos that were not trained on.")
@click.option("--sources", type=_PATH, help="Table with each photo's source.  [default: the run's]")
def evaluate_run(run: Path, data: tuple[Path, ...], test: Path | None, sources: Path | None) -> None:
    """Evaluate the Learner in RUN again, and rewrite its metrics.json and report.html."""
    from .run import evaluate_again

    evaluate_again(run, data, test, sources)


@main.command("calibrate")
@click.argument("run", type=_PATH)
@click.option("--photos", multiple=True, required=True, type=_PATH, help="Folder of labelled photos that the run was not"
              " trained on; repeat it for several.")  # fmt: skip
@click.option("--data", multiple=True, type=_PATH, help="Folder of the run's photos.  [default: where they were]")
def calibrate_run(run: Path, photos: tuple[Path, ...], data: tuple[Path, ...]) -> None:
    """Fit the temperature of the Learner in RUN on other photos than its validation photos.

    The probabilities then fit photos like these. The decisions stay the same.
    """
    from .run import calibrate_again

    calibrate_again(run, photos, data)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The plot, .png or .svg.")
def curve(runs: tuple[Path, ...], out: Path) -> None:
    """Plot the validation error of RUNS against the crops that each has seen."""
    from .curve import draw_curves

    if out.suffix not in (".png", ".svg"):
        raise click.UsageError(f"--out: {out.name} does not end in .png or .svg")
    draw_curves(runs, out)


@main.command()
@click.argument("run", type=_PATH)
@click.argument("photo", type=_PATH)
def predict(run: Path, photo: Path) -> None:
    """Classify PHOTO with the Learner in RUN, and print what the lesson prints."""
    from .run import predict_photo

    predict_photo(run, photo)


if __name__ == "__main__":
    main(prog_name="python -m train")
