"""The model card of a checkpoint, made from its record alone."""

from pathlib import Path
from typing import Any


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _metrics(evaluation: dict[str, Any] | None) -> str:
    """evaluation: {metric name: {value, low, high, n, chance}}."""
    if not evaluation:
        return "Not evaluated on a suite."
    rows = []
    for name, m in evaluation.items():
        interval = f"[{_cell(m.get('low'))}, {_cell(m.get('high'))}]" if m.get("low") is not None else ""
        rows.append(
            [
                name,
                _cell(m.get("value")),
                interval,
                _cell(m.get("n", "")),
                _cell("" if m.get("chance") is None else m["chance"]),
            ]
        )
    return _table(["metric", "value", "95 % interval", "n", "chance"], rows)


def model_card(manifest: dict[str, Any], folder: Path, purpose: str = "") -> str:
    """Markdown with the metadata block that the hub reads. Every figure comes from the manifest."""
    stage = manifest["stage"]
    auto = "AutoModelForSequenceClassification" if stage == "reward_model" else "AutoModelForCausalLM"
    failed = [check for check in manifest["checks"] if not check["passed"]]
    parents = [
        [
            p["stage"],
            f"`{p['path']}`" + (f" at `{p['revision'][:12]}`" if "revision" in p else ""),
            f"`{p['sha256'][:16]}`",
        ]
        for p in manifest["parents"]
    ]
    data = [[f"`{d['path']}`", f"`{(d['sha256'] or 'from the hub')[:16]}`"] for d in manifest["data"]]
    settings = [[name, f"`{_cell(value)}`"] for name, value in manifest["config"].items() if value is not None]
    peak_gib = manifest["peak_memory_bytes"]["host"] / 2**30
    return (
        "\n\n".join(
            [
                f"---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [plumbline, {stage}]\n---",
                f"# {folder.name}",
                f"This is {purpose or f'the result of the stage {stage}'}. Card and figures are made from `manifest.json`.",
                "## Load\n\n```python\nfrom transformers import AutoTokenizer, " + auto + "\n\n"
                f'tokenizer = AutoTokenizer.from_pretrained("{folder}")\nmodel = {auto}.from_pretrained("{folder}")\n```',
                "## Measured\n\n" + _metrics(manifest["evaluation"]),
                "## Limits\n\n"
                + ("\n".join(f"- failed check **{c['name']}**: {c['detail']}" for c in failed) or "- No check failed.")
                + "\n- It is as good as the table above says and no better: made to be studied, not to be relied on. Intervals are over "
                "items of one training seed.",
                "## Made from\n\n"
                + (
                    _table(["parent", "path", "weights sha256"], parents)
                    if parents
                    else "No parent: trained from nothing."
                )
                + ("\n\n" + _table(["data", "sha256"], data) if data else ""),
                "## Recipe\n\n" + _table(["setting", "value"], settings),
                f"## Cost\n\n{manifest['wall_s']:.0f} s, {manifest['steps'] or 'no'} steps, {manifest['tokens'] or 'uncounted'} tokens, "
                f"{manifest['trained_parameters'] or 'uncounted'} trained parameters, {peak_gib:.1f} GiB peak, on "
                f"{manifest['hardware']['processor']} ({manifest['hardware']['cores']} cores).",
                "## Reproduce\n\n"
                f"Seed {manifest['seed']}, code at commit `{manifest['git_commit']}`, versions in `manifest.json`. "
                "The same settings with the same versions on the same machine give the same bytes.",
                "## Licence\n\nThe code is Apache-2.0. Weights inherit the terms of the data above.",
            ]
        )
        + "\n"
    )
