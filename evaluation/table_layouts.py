"""The layouts of tables: which metric fills a column and which tower a row; the tables without published values."""

from dataclasses import dataclass

# As the supplement's tables print them, by `model_type`, in the order of Table 3.
PRINTED_NAMES = {
    "vit3d": "ViT3D",
    "token_learner": "TokenLearner",
    "vivit_factorised": "ViViT",
    "token_merge": "AutoMerge",
    "rlt": "RLT",
    "tome": "ToMe",
    "trajvit": "TrajViT (ours)",
    "image_vit": "ViT",
}
_VIDEO_TOWERS = tuple(tower for tower in PRINTED_NAMES if tower != "image_vit")


@dataclass(frozen=True)
class Column:
    """A column: one metric of one task on one data set.

    Attributes:
        task, dataset, metric: As in `Result`. Without a data set, that of any counts. `{frames}` in a metric stands
            for the number of frames, which then names the group of rows.
        name: Printed at the head.
        heading: Printed above neighbouring columns of the same heading.
        decimals: How many are printed.
        divisor: What the metric is divided by for print.
        lowest_is_best: Which value is marked as best; None marks none.
    """

    task: str
    dataset: str | None
    metric: str
    name: str
    heading: str = ""
    decimals: int = 1
    divisor: float = 1.0
    lowest_is_best: bool | None = False

    @property
    def full_name(self) -> str:
        return f"{self.heading} {self.name}".lstrip()


@dataclass(frozen=True)
class LayoutRow:
    """A row that a table has whether there are results for it or not.

    Attributes:
        tower: `model_type` of the results that belong here.
        label: Printed.
        trained_on: Of the results that belong here; None where it does not matter.
        group: Printed before the first of neighbouring rows with the same group.
        published: The published value of each column; empty where none is known.
    """

    tower: str
    label: str
    trained_on: str | None = None
    group: str = ""
    published: tuple[float, ...] = ()


@dataclass(frozen=True)
class TableLayout:
    """A table before results fill it.

    Attributes:
        name: What `--table` and the CSV file call it.
        title: Printed above.
        columns: Left to right.
        rows: Top to bottom. Results that belong in the columns and in no row make rows of their own.
        group_name: What rows are grouped by: `Training data`, `Frames`, or nothing. A table that is grouped by
            training data takes no results for other training data than its rows have.
        source: Where the published values are from.
        notes: Printed below.
        not_applicable: Towers that cannot do the task, with the reason.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[LayoutRow, ...] = ()
    group_name: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    not_applicable: tuple[tuple[str, str], ...] = ()

    @property
    def over_frames(self) -> bool:
        return any("{frames}" in column.metric for column in self.columns)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.group for row in self.rows))


def unpublished_layouts() -> tuple[TableLayout, ...]:
    """Tables of what the main paper measures besides, for which no published value is held."""
    videos = tuple(LayoutRow(tower, PRINTED_NAMES[tower]) for tower in _VIDEO_TOWERS)
    datasets = {"activitynet": "ActivityNet", "vatex": "VATEX", "msrvtt": "MSR-VTT", "charades": "Charades"}
    retrieval = tuple(
        Column("retrieval", dataset, f"{direction}_R@5", direction, heading, decimals=2)
        for dataset, heading in datasets.items()
        for direction in ("txt2vid", "vid2txt")
    )
    probing = tuple(
        Column("attentive_probing", dataset, f"top_{k}", f"top-{k}", heading)
        for dataset, heading in {"kinetics400": "K400", "ssv2": "SSv2"}.items()
        for k in (1, 5)
    )
    detection = tuple(
        Column("action_detection", "ava", f"mAP_{boxes}_boxes", f"{boxes.replace('_', '-')} boxes", "mAP")
        for boxes in ("ground_truth", "detected")
    )
    return (
        TableLayout("retrieval", "Video-text retrieval of all models (R@5, %)", retrieval, videos),
        TableLayout("attentive_probing", "Action classification by attentive probing (accuracy, %)", probing, videos),
        TableLayout(
            "action_detection",
            "Spatio-temporal action detection on AVA v2 (mAP at IoU 0.5, %)",
            detection,
            videos,
            not_applicable=(
                ("token_merge", "its tokens have no places in the video (supplement, section 4), so no box has tokens"),
            ),
        ),
        TableLayout("efficiency", "What a video costs", _cost_columns(), group_name="Frames"),
    )


def _cost_columns() -> tuple[Column, ...]:
    def column(metric: str, name: str, decimals: int = 1, **others) -> Column:
        return Column("efficiency", None, metric, name, decimals=decimals, lowest_is_best=True, **others)

    return (
        Column("efficiency", None, "parameters", "parameters, M", divisor=1e6, lowest_is_best=None),
        column("tokens@{frames}", "tokens", decimals=0),
        column("gflop@{frames}", "GFLOP"),
        column("latency_ms@{frames}", "latency, ms"),
        column("memory_mb@{frames}", "memory, MB", decimals=0),
        column("generation_s@{frames}", "trajectory generation, s", decimals=2),
    )
