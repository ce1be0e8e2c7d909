"""Folders of made-up results, whose tables tests know by heart."""

from pathlib import Path

from trajvit.evaluation.result_files import Result, save_result

VERSIONS = {"python": "3.12.0"}


def store(folder: Path, task: str, dataset: str, tower: str, metrics: dict[str, float], **others) -> Path:
    """Write a result of 1,000 items by the model `lab/<tower>`, unless `others` say something else."""
    fields = {"model": f"lab/{tower}", "num_items": 1000, "versions": VERSIONS, **others}
    return save_result(folder, Result(task, dataset, tower=tower, metrics=metrics, **fields))


def store_zero_shot(folder: Path) -> None:
    """Three models of Table 3; TrajViT has only two of its data sets, and RLT lacks media of one."""
    for dataset, values in {
        "kinetics400": {"vit3d": 41.27, "rlt": 40.0, "trajvit": 43.96},
        "ssv2": {"vit3d": 12.34, "rlt": 11.5, "trajvit": 11.8},
        "ucf101": {"vit3d": 38.0, "rlt": 33.96},
    }.items():
        for tower, value in values.items():
            missing = {"a": "not there", "b": "not there"} if (dataset, tower) == ("ucf101", "rlt") else {}
            metrics = {"top_1": value / 2, "top_5": value}
            store(folder, "zero_shot_classification", dataset, tower, metrics, missing=missing, trained_on="panda-8m")


def store_retrieval(folder: Path, tower: str, trained_on: str | None, recall: float, datasets: tuple[str, ...]) -> None:
    """R@5 of `recall` from text to video and 10 more from video to text."""
    for dataset in datasets:
        metrics = {"txt2vid_R@5": recall, "vid2txt_R@5": recall + 10, "txt2vid_median_rank": 7.0}
        store(folder, "retrieval", dataset, tower, metrics, trained_on=trained_on, model=f"lab/{tower}-{trained_on}")
