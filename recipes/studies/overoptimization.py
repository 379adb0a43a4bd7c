"""Over-optimisation: what a policy gains by its proxy (the reward model) against what it gains by gold, at each distance from its start.

    python -m recipes.studies.overoptimization --config recipes/configs/tiny/overoptimization.yaml
    python -m recipes.studies.overoptimization --config ... --overwrite --dpo_beta 1 0.1 0.01      (only what is new is trained)

PPO (a sweep of kl_coef, and the way of the one that goes furthest), DPO (a sweep of beta) and best-of-n of the parent, on one axis,
sqrt(KL): Gao et al. 2022, arXiv:2210.10760. Each variant is the stage's own recipe with one setting changed, for each seed, in a process
of its own below `<output_dir>-sweep`, evaluated as the stage is. One whose settings, code and parents are unchanged is not trained
again, one that was interrupted goes on. All are measured on the same held-out prompts, one sampled answer each. In the run folder:
figure.svg, table.md, points.json; and toy.svg, the same on a task small enough to enumerate, where the limit (the exact tilt) is known.
The seeds are of the aligning stage alone: parent and reward model are one. The tiny sweep is 15 runs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from base_model.checkpoints import read_json_lines
from recipes.pipeline.graph import PlannedStage
from recipes.run.cli import command, parse, reject_unknown
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("overoptimization", kind="studies")


@dataclass(frozen=True)
class OveroptimizationConfig:
    """Who is aligned, by which proxy, judged by whom, and how far each method is taken."""

    model: str = field(metadata={"help": "checkpoint that all methods start from, and the reference"})
    reward_model: str = field(metadata={"help": "the proxy: PPO's reward, best-of-n's choice"})
    prompts: str = field(metadata={"help": "prompts that PPO trains on"})
    pairs: str = field(metadata={"help": "preference pairs that DPO trains on"})
    heldout: str = field(metadata={"help": "prompts that all are measured on; never trained on"})
    gold: str = field(metadata={"help": "the judge that nobody trains on, by its name in recipes.judges.registry"})
    heldout_rows: int | None = None  # at most so many of them, the first ones
    ppo_config: str | None = None  # the stage's YAML; None: no PPO
    ppo_kl_coef: list[float] = field(default_factory=lambda: [0.2, 0.05, 0.0])
    ppo_set: dict = field(default_factory=dict)  # other settings on top of ppo_config
    dpo_config: str | None = None  # the stage's YAML; None: no DPO
    dpo_beta: list[float] = field(default_factory=lambda: [1.0, 0.3, 0.1, 0.03])
    dpo_set: dict = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])  # of the aligning stages
    best_of: int = 16  # answers of the parent to each prompt; best-of-n for n = 1, 2, 4, ... up to it
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("seeds", "ppo_kl_coef", "dpo_beta"):
            if not getattr(self, name) or len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must hold distinct values, at least one; got {getattr(self, name)}")
        if self.best_of < 1:
            raise ValueError(f"best_of must be at least 1, got {self.best_of}")
        if self.gold == self.reward_model:
            raise ValueError(f"{self.gold} is both reward_model and gold: what is trained on measures nothing")


CONFIG_TYPES = (RunConfig, OveroptimizationConfig)


class Variant(PlannedStage):
    """A stage of the sweep: trained anew when its data or its parents' weights are others."""

    def inputs(self) -> dict[str, str]:
        from recipes.run.record import describe_data, weights_sha256

        hashes = {name: weights_sha256(folder) for name, folder in self.parents.items()}
        return {**super().inputs(), **hashes, "data": str(describe_data(self.settings["data"])["sha256"])}


def main(argv: list[str] | None = None) -> Path:
    """Run the sweep and draw it; returns the run folder."""
    run_config, config = parse(*CONFIG_TYPES, argv=argv)
    check_settings(config)
    from alignment.overoptimization import best_of_n_points, over_seeds, turnover
    from recipes.judges.registry import check_judges
    from recipes.pipeline.schedule import run_stages
    from recipes.run.process import preload_training_packages

    parents = [config.model, config.reward_model]
    run = Run.start(STAGE, run_config, config, parents=parents, data=[config.prompts, config.pairs, config.heldout])
    check_judges([config.reward_model, config.gold])
    root = run.dir.with_name(f"{run.dir.name}-sweep")
    rows = heldout_rows(config)
    sweep = variants(config, root, len(rows))
    preload_training_packages()
    run_stages([stage for of_setting in sweep.values() for stage in of_setting], root, run.progress)

    judges = proxy_and_gold(config)
    measured: dict[tuple[str, str], list] = {
        key: [measure_variant(config, stage, rows, judges) for stage in of_setting] for key, of_setting in sweep.items()
    }
    measured |= trajectory(config, sweep)
    points = [over_seeds(method, setting, runs) for (method, setting), runs in measured.items()]
    points += best_of_n_points(*best_of_n_scores(config, rows, judges, run_config.seed))
    found = [
        turnover(method, {setting: runs for (name, setting), runs in measured.items() if name == method})
        for method in dict.fromkeys(method for method, _ in measured)
    ]
    write_results(run, points, found)
    return run.finish()


def check_settings(config: OveroptimizationConfig) -> None:
    """Raise ValueError for a setting that PPO or DPO does not have, before anything is run."""
    from recipes import dpo, ppo

    for recipe, changed, where in ((ppo, config.ppo_set, "ppo_set"), (dpo, config.dpo_set, "dpo_set")):
        known = [name for kind in recipe.CONFIG_TYPES for name in kind.__dataclass_fields__]
        reject_unknown(list(changed), known, where)


def variants(config: OveroptimizationConfig, root: Path, prompts: int) -> dict[tuple[str, str], list[PlannedStage]]:
    """{(method, setting): a stage a seed}."""
    ppo = {
        **{"model": config.model, "reward_model": config.reward_model, "data": config.prompts},
        **{
            "heldout": config.heldout,
            "heldout_rows": config.heldout_rows,
            "judges": [config.gold],
            "max_completion_length": config.max_new_tokens,
        },
        **{
            "eval_strategy": "steps",
            "num_eval_samples": prompts,
        },  # its evaluations on all prompts, kept: the way it goes
        **config.ppo_set,
    }
    dpo = {"model": config.model, "data": config.pairs, "heldout": None, **config.dpo_set}
    sweeps = []
    if config.ppo_config:
        parents = {"model": Path(config.model), "reward_model": Path(config.reward_model)}
        sweeps.append(("ppo", "kl_coef", config.ppo_kl_coef, config.ppo_config, ppo, parents))
    if config.dpo_config:
        sweeps.append(("dpo", "beta", config.dpo_beta, config.dpo_config, dpo, {"model": Path(config.model)}))
    made = {}
    for recipe, swept, values, file, settings, parents in sweeps:
        for value in values:
            made[recipe, f"{swept} {value:g}"] = [
                Variant(
                    name=(name := f"{recipe}-{swept}-{value:g}-seed-{seed}"),
                    recipe=recipe,
                    config=file,
                    settings={**settings, swept: value, "seed": seed},
                    parents=parents,
                    folder=root / name,
                )
                for seed in config.seeds
            ]
    return made


def heldout_rows(config: OveroptimizationConfig) -> list[dict[str, Any]]:
    """The prompts to measure on, with the columns that gold wants."""
    from base_model.documents import Source, read_rows

    rows = read_rows(Source(config.heldout), required=("prompt",))
    return [row.fields for row in islice(rows, config.heldout_rows)]


def proxy_and_gold(config: OveroptimizationConfig) -> tuple:
    """The two judges."""
    from recipes.judges.registry import resolve
    from reward.model import RewardModel

    reward = RewardModel.load(config.reward_model)
    reward.cut_long_prompts()
    return reward.score, resolve([config.gold])[config.gold]


def measure_variant(config: OveroptimizationConfig, stage: PlannedStage, rows: Sequence[Mapping], judges: tuple):
    """The finished checkpoint, from disk, on the held-out prompts."""
    from alignment.overoptimization import measure
    from eval.harness import load_checkpoint

    policy, tokenizer = load_checkpoint(stage.folder)
    reference, _ = load_checkpoint(config.model)
    seed = stage.settings["seed"]
    return measure(policy, reference, tokenizer, rows, *judges, max_new_tokens=config.max_new_tokens, seed=seed)


def trajectory(config: OveroptimizationConfig, sweep: Mapping) -> dict[tuple[str, str], list]:
    """{("ppo trajectory", step): a measurement a seed}: the evaluations of the PPO runs with the smallest kl_coef, as they left them."""
    from alignment.overoptimization import Measured

    found: dict[tuple[str, str], list] = {}
    if not config.ppo_config:
        return found
    for stage in sweep["ppo", f"kl_coef {min(config.ppo_kl_coef):g}"]:
        for file in sorted((stage.folder / "checkpoints" / "samples").glob("step-*.jsonl")):
            rows = list(read_json_lines(file))
            columns = [[row[name] for row in rows] for name in ("kl_nats", "score", config.gold)]
            found.setdefault(("ppo trajectory", f"step {rows[0]['step']}"), []).append(Measured(*columns))
    return found


def best_of_n_scores(config: OveroptimizationConfig, rows: Sequence[Mapping], judges: tuple, seed: int) -> list:
    """[proxy, gold] of `best_of` answers of the parent to each prompt, (P, N) each."""
    import numpy as np

    from eval.harness import load_checkpoint
    from reward.on_policy import sample_answers

    model, tokenizer = load_checkpoint(config.model)
    prompts, n = [row["prompt"] for row in rows], config.best_of
    answers = sample_answers(
        model, tokenizer, prompts, n, max_new_tokens=config.max_new_tokens, temperature=1.0, top_p=1.0, seed=seed
    )
    flat = [answer["text"] for of_prompt in answers for answer in of_prompt]
    names = dict.fromkeys(name for row in rows for name in row if name != "prompt")
    columns = {name: [row.get(name) for row in rows for _ in range(n)] for name in names}
    repeated = [prompt for prompt in prompts for _ in range(n)]
    return [np.array(judge(repeated, flat, **columns)).reshape(-1, n) for judge in judges]


def toy_curves() -> tuple[list, list]:
    """(best-of-n, the exact tilt) on the enumerable toy, nothing sampled.

    The proxy is gold plus an error with heavy tails (Student's t, 4 degrees of freedom), of a draw that shows what such errors can do:
    the tilt is the best PROXY at each KL, and loses gold early (arXiv:2407.14503). With light tails gold need not fall at all."""
    import torch

    from alignment.overoptimization import exact_best_of_n, exact_tilt
    from alignment.toy import answer_logprobs, make_model, make_toy

    gold_XY, reference_XY = make_toy().reward_XY, answer_logprobs(make_model())
    generator = torch.Generator().manual_seed(0)
    normal_XY = torch.randn(gold_XY.shape, generator=generator, dtype=torch.float64)
    chi_4XY = torch.randn(4, *gold_XY.shape, generator=generator, dtype=torch.float64)
    proxy_XY = gold_XY + 0.5 * normal_XY / chi_4XY.square().mean(0).sqrt()
    tilt = exact_tilt(reference_XY, proxy_XY, gold_XY, [20 * 0.7**k for k in range(20)])
    return exact_best_of_n(reference_XY, proxy_XY, gold_XY, [2**k for k in range(13)]), tilt


def write_results(run: Run, points: list, found: list[str]) -> None:
    """Figures, table, points and what can be said of them: into the folder, and into the record for the report."""
    from alignment.overoptimization import COLUMNS, as_json, cells, figure_svg, table
    from base_model.checkpoints import write_text_atomically

    toy, tilt = toy_curves()
    best = max(tilt, key=lambda row: row["gold"])
    found = [
        *found,
        f"toy, exact tilt: gold is highest at sqrt KL {math.sqrt(best['kl_nats']):.2f} ({best['gold']:+.3f}); it is "
        f"{tilt[0]['gold']:+.3f} beside the reference and {tilt[-1]['gold']:+.3f} at {math.sqrt(tilt[-1]['kl_nats']):.2f}, exactly.",
    ]
    said = (
        "95 % intervals over held-out prompts, the seeds of a prompt kept together. KL in nats a response, by sampling; for best-of-n "
        "an upper bound (<=), at one draw of answers. The trajectory is of the smallest kl_coef."
    )
    text = (
        "# Gold and proxy against sqrt(KL)\n\n" + table(points) + f"\n{said}\n\n" + "".join(f"- {f}\n" for f in found)
    )
    write_text_atomically(run.out / "figure.svg", figure_svg(points))
    write_text_atomically(run.out / "toy.svg", figure_svg(toy, tilt))
    write_text_atomically(run.out / "table.md", text)
    values = {"points": as_json(points), "toy_best_of_n": as_json(toy), "toy_exact_tilt": tilt}
    write_text_atomically(run.out / "points.json", json.dumps(values, indent=1) + "\n")
    run.note("findings", found)
    shown = " ".join([said, *found])
    run.note(
        "tables", [{"title": "gold and proxy against √KL", "text": shown, "columns": COLUMNS, "rows": cells(points)}]
    )
    run.note(
        "figures",
        [
            {"title": "gold (filled) and proxy (open) against √KL", "file": "figure.svg"},
            {
                "title": "the enumerable toy, exact: the tilt is the best proxy, not the best gold, at each KL",
                "file": "toy.svg",
            },
        ],
    )
    print(text)


if __name__ == "__main__":
    command(main)
