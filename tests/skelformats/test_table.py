"""Tables of poses: the forms that people have them in give the same clips; what is odd is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skelconv.ingest.plan import make_plan
from skelformats.errors import FormatError, SkelconvError
from skelformats.reader import Clip, find_reader
from skelformats.skeleton import load_skeleton

COCO = load_skeleton("coco17")
TOYOTA = load_skeleton("toyota13")


def poses(frames: int = 4, axes: int = 2, joints: int = 17) -> np.ndarray:
    return np.random.default_rng(1).normal(100, 30, (frames, joints, axes)).astype(np.float32)


def long(position: np.ndarray, names: tuple[str, ...], **columns: Any) -> pd.DataFrame:
    frames, joints, axes = position.shape
    rows = pd.DataFrame(position.reshape(-1, axes), columns=list("xyz"[:axes]))
    return rows.assign(frame=np.repeat(np.arange(frames), joints), joint=list(names) * frames, **columns)


def wide(position: np.ndarray, names: tuple[str, ...], joint: str = "{}_{}", **columns: Any) -> pd.DataFrame:
    table = {
        joint.format(name, axis): position[:, number, which]
        for number, name in enumerate(names)
        for which, axis in enumerate("xyz"[: position.shape[2]])
    }
    return pd.DataFrame({"frame": np.arange(len(position)), **table, **columns})


def read(root: Path, **options: Any) -> list[Clip]:
    reader = find_reader("table")
    chosen = reader.options(**{"skeleton": "coco17", **options})
    return [clip for source in reader.scan(root, chosen) for clip in reader.read(root, source, chosen)]


def only(root: Path, **options: Any) -> np.ndarray:
    (clip,) = read(root, **options)
    return clip.tracks[0].position


class TestForms:
    def test_a_row_a_joint(self, tmp_path: Path) -> None:
        long(poses(), COCO.names).sample(frac=1, random_state=0).to_csv(tmp_path / "a.csv", index=False)
        assert np.array_equal(only(tmp_path), poses())

    @pytest.mark.parametrize("joint", ["{}_{}", "{}.{}", "{} {}"])
    def test_a_row_a_frame(self, tmp_path: Path, joint: str) -> None:
        wide(poses(), COCO.names, joint).to_csv(tmp_path / "a.csv", index=False)
        assert np.array_equal(only(tmp_path), poses())

    def test_names_in_other_spellings_and_three_axes_as_parquet(self, tmp_path: Path) -> None:
        names = tuple(name.replace("_", " ").title().replace(" ", "") for name in TOYOTA.names)
        wide(poses(axes=3, joints=13), names).to_parquet(tmp_path / "a.parquet")
        assert np.array_equal(only(tmp_path, skeleton="toyota13"), poses(axes=3, joints=13))

    def test_deeplabcut(self, tmp_path: Path) -> None:
        position, rows = poses(), []
        rows.append(["scorer"] + ["net"] * 51)
        rows.append(["bodyparts"] + [name for name in COCO.names for _ in range(3)])
        rows.append(["coords"] + ["x", "y", "likelihood"] * 17)
        for number, pose in enumerate(position):
            rows.append([str(number), *(f"{v}" for x, y in pose.tolist() for v in (x, y, 0.9))])
        (tmp_path / "a.csv").write_text("\n".join(map(",".join, rows)))
        (clip,) = read(tmp_path)
        assert np.array_equal(clip.tracks[0].position, position)
        assert np.allclose(clip.tracks[0].confidence, 0.9)

    def test_deeplabcut_of_several(self, tmp_path: Path) -> None:
        position = poses()
        rows = [["scorer"] + ["net"] * 102, ["individuals"] + ["ann"] * 51 + ["bob"] * 51]
        rows.append(["bodyparts"] + [name for name in COCO.names for _ in range(3)] * 2)
        rows.append(["coords"] + ["x", "y", "likelihood"] * 34)
        for number, pose in enumerate(position):
            cells = [f"{v}" for x, y in pose.tolist() for v in (x, y, 1)]
            # Bob is not there in the first frame
            rows.append([str(number), *cells, *(cells if number else [""] * 51)])
        (tmp_path / "a.csv").write_text("\n".join(map(",".join, rows)))
        (clip,) = read(tmp_path)
        assert [track.body for track in clip.tracks] == ["ann", "bob"]
        assert clip.tracks[1].frame_index.tolist() == [1, 2, 3]

    def test_sleap(self, tmp_path: Path) -> None:
        table = wide(poses(), COCO.names, "{}.{}").rename(columns={"frame": "frame_idx"})
        table.insert(0, "track", "track_0")
        table.insert(2, "instance.score", 0.5)
        table = pd.concat([table, table.assign(track="track_1")])
        table.to_csv(tmp_path / "a.csv", index=False)
        (clip,) = read(tmp_path)
        assert [track.body for track in clip.tracks] == ["track_0", "track_1"]
        assert np.array_equal(clip.tracks[1].position, poses())

    def test_columns_of_any_name_by_a_toml_file(self, tmp_path: Path) -> None:
        names = tuple(f"marker {number}" for number in range(17))
        table = long(poses(), names).rename(columns={"frame": "t", "joint": "what", "x": "u", "y": "v"})
        extra = table.assign(what="a stick")
        root = tmp_path / "raw"
        root.mkdir()
        pd.concat([table, extra.drop_duplicates("t")]).to_csv(root / "a.csv", index=False)
        joints = "\n".join(f'"{a}" = "{b}"' for a, b in zip(names, COCO.names, strict=True))
        file = tmp_path / "names.toml"
        file.write_text(
            f'[columns]\nframe = "t"\njoint = "what"\nx = "u"\ny = "v"\n[joints]\n{joints}\n"a stick" = ""\n'
        )
        assert np.array_equal(only(root, columns=file), poses())


def test_one_table_of_a_folder_is_read_by_itself(tmp_path: Path) -> None:
    long(poses(axes=3, joints=13), TOYOTA.names).to_csv(tmp_path / "a.csv", index=False)
    long(poses(), COCO.names, label="walk", split="train").to_csv(tmp_path / "b.csv", index=False)
    plan = make_plan("table", tmp_path / "b.csv", "test", options={"skeleton": "coco17"})
    assert [source.path for source in plan.sources] == ["b.csv"]
    assert (plan.dataset_info.classes, len(plan.dataset_info.axes)) == (("walk",), 2)
    (clip,) = plan.reader.read(plan.root, plan.sources[0], plan.options)
    assert isinstance(clip, Clip)
    assert clip.splits == {"own": "train"}


class TestTable:
    def test_recordings_labels_splits_and_columns(self, tmp_path: Path) -> None:
        parts = [
            long(
                poses(),
                COCO.names,
                video=f"v{k}",
                action=("walk", "sit")[k % 2],
                split_mine="train",
                age=30 + k,
            )
            for k in range(3)
        ]
        pd.concat(parts).to_csv(tmp_path / "all.csv", index=False)
        clips = read(tmp_path)
        dataset = find_reader("table").dataset_of(tmp_path, find_reader("table").options(skeleton="coco17"))
        assert dataset.classes == ("sit", "walk")
        assert [clip.recording for clip in clips] == ["v0", "v1", "v2"]
        assert [clip.label for clip in clips] == [1, 0, 1]
        assert clips[0].splits == {"mine": "train"}
        assert [clip.tracks[0].columns["age"] for clip in clips] == [30, 31, 32]

    def test_missing_joints_and_absent_frames(self, tmp_path: Path) -> None:
        table = wide(poses(), COCO.names)
        table.loc[1, "nose_x"] = np.nan
        table.iloc[2, 1:] = np.nan
        table.to_csv(tmp_path / "a.csv", index=False)
        (clip,) = read(tmp_path)
        assert clip.tracks[0].frame_index.tolist() == [0, 1, 3]
        assert np.isnan(clip.tracks[0].position[1, 0]).all()

    def test_classes_may_be_given_an_order(self, tmp_path: Path) -> None:
        long(poses(), COCO.names, label="walk").to_csv(tmp_path / "a.csv", index=False)
        assert read(tmp_path, classes="sit,walk")[0].label == 1


class TestOdd:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "no table"),
            ("a,b\n1,2\n", "the columns a, b"),
            ("frame,joint,x,y\n0,nose,1,2\n0,nose,3,4\n", "nose 2 times in frame 0"),
            ("frame,joint,x,y\n0.5,nose,1,2\n", "the frame 0.5 in row 1"),
            ("frame,joint,x,y\n0,nose,one,2\n", "'one' in column x, row 1"),
            ("frame,joint,x,y\n0,tail,1,2\n", "the joint 'tail'"),
            ("joint,x,y\nnose,1,2\n", "no column of frames"),
            ("frame,joint,x,y\n", "no rows"),
            ("frame,nose_x,nose_y\n0,1,2,3,4\n1,2\n", "expected"),
        ],
    )
    def test_what_cannot_be_read_says_where_and_what(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(FormatError, match=said):
            read(tmp_path, partial=True)

    def test_joints_that_lack_are_named_unless_they_may(self, tmp_path: Path) -> None:
        wide(poses()[:, :15], COCO.names[:15]).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(FormatError, match="no joint left_ankle, right_ankle"):
            read(tmp_path)
        assert np.isnan(only(tmp_path, partial=True)[:, 15:]).all()

    def test_tables_that_differ_from_the_first(self, tmp_path: Path) -> None:
        wide(poses(), COCO.names).to_csv(tmp_path / "a.csv", index=False)
        wide(poses(axes=3), COCO.names).to_csv(tmp_path / "b.csv", index=False)
        with pytest.raises(FormatError, match="what the first table has"):
            read(tmp_path)

    def test_without_a_layout(self, tmp_path: Path) -> None:
        wide(poses(), COCO.names).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(SkelconvError, match="no --skeleton"):
            read(tmp_path, skeleton="")
