"""Human3.6M: the official CDF files, the h5 files of 3d-pose-baseline, and VideoPose3D's npz.

One person, 32 joints, 50 frames a second, four cameras. The official files hold a take in the world
(``D3_Positions``) and in each camera's frame (``D3_Positions_mono``); the others hold the world alone, from
which the cameras' frames follow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skelformats.errors import FormatError, SkelconvError, UnknownNameError
from skelformats.h36m_cameras import CAMERA_TABLE, CAMERAS
from skelformats.human36m_files import (
    Key,
    Kind,
    Survey,
    by_take,
    layout_of_set,
    parse_take,
    read_cdf,
    read_h5,
    survey,
)
from skelformats.human36m_takes import CAMERA_PROTOCOL, TakeReader
from skelformats.protocols import load_facts
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Dataset,
    Extra,
    Option,
    Reader,
    ReadOptions,
    Refused,
    Source,
)
from skelformats.skeleton import load_skeleton

FRAME_RATE = 50.0
RELEASED = (1, 5, 6, 7, 8, 9, 11)
"""Subjects whose poses are released."""

CAMERA_AXES = AxisMap((0, 1, 2), (-1, -1, 1), 0.001)
"""From millimetres, +x right, +y down, +z ahead, to the axes of a Kinect's frame."""

WORLD_AXES = AxisMap((0, 2, 1), (1, 1, -1), 0.001)
"""From millimetres, +z up."""

_FACTS = load_facts("h36m")
_AUTO = "auto"
_KINDS: tuple[Kind, ...] = ("cdf", "h5", "npz")
_PIXEL_LABELS = {"pixel_axis": ("x", "y")}
_LAYOUT_OF_FOLDERS = (
    "S1/MyPoseFeatures/D3_Positions_mono/*.cdf or D3_Positions/*.cdf (official), "
    "S1/MyPoses/3D_positions/*.h5 (3d-pose-baseline) or data_3d_h36m.npz (VideoPose3D)"
)


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List one source a pose file, or for npz one a subject, with the files that belong to it.

    Raises
    ------
    FormatError
        There are files of the dataset but no poses, poses of several distributions, or not the files that
        the options ask for.
    SkelconvError
        The options contradict each other.
    """
    found = survey(root)
    kind = _choose(root, found, options)
    if kind is None:
        return []
    if options.extras and options.values["space"] == "world":
        raise SkelconvError(
            f"found --with {','.join(sorted(options.extras))} and --space world, expected --space camera: "
            "a pixel belongs to one camera"
        )
    shared = [found.metadata] if found.metadata else []
    beside: list[dict[Key, tuple[str, int]]] = [by_take(found.pixel)] if "pixel" in options.extras else []
    if "detection" in options.extras:
        detections = found.detections[_set_name(root, found, options)]
        shared += [path for path, _ in detections if path.endswith(".npz")]
        beside.append(by_take([file for file in detections if file[0].endswith(".h5")]))
    if kind == "npz":
        # one file for all: a source is what it holds of one subject, which `recording` names
        return [
            Source(path, size // len(RELEASED), tuple(shared), f"S{subject}")
            for path, size in found.npz
            for subject in RELEASED
        ]
    sources = []
    for path, size in _pose_files(root, found, kind, options):
        members = [file for files in beside for file in _files_beside(path, files)]
        paths = (*shared, *(member for member, _ in members))
        sources.append(Source(path, size + sum(more for _, more in members), paths))
    return sorted(sources, key=lambda source: source.path)


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one source: a take in one camera, in each of the four, or in the world.

    Raises
    ------
    FormatError
        The name or the content of a file is not of this format.
    """
    reader = TakeReader(root, source, options)
    path = root / source.path
    if path.suffix == ".npz":
        return list(reader.npz_clips(source.recording))
    take = parse_take(source.path)
    position = read_h5(path) if path.suffix == ".h5" else read_cdf(path, 3)
    return list(reader.clips(take, position))


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset with the layout, axes and optional arrays of these options and files."""
    found = survey(root)
    in_world = options.values["space"] == "world"
    axis_map = WORLD_AXES if in_world else CAMERA_AXES
    if _choose(root, found, options) == "npz":
        axis_map = replace(axis_map, scale=1.0)  # VideoPose3D writes metres
    extras = H36M.dataset.extras
    if "detection" in options.extras:
        layout = load_skeleton(layout_of_set(_set_name(root, found, options)))
        extras = tuple(_detection(layout.names) if e.name == "detection" else e for e in extras)
    return replace(
        H36M.dataset,
        skeleton=f"h36m{options.values['joints']}",
        axis_map=axis_map,
        protocols=tuple(p for p in _FACTS.protocols if not (in_world and p.name == CAMERA_PROTOCOL)),
        extras=extras,
    )


def _choose(root: Path, found: Survey, options: ReadOptions) -> Kind | None:
    """Return the distribution to read, or None where there is nothing at all; raises `FormatError`."""
    wanted = options.values["files"]
    if wanted != _AUTO:
        if wanted not in found.kinds:
            raise FormatError(root, f"no pose files of the kind {wanted}", _LAYOUT_OF_FOLDERS)
        return next(kind for kind in _KINDS if kind == wanted)
    if len(found.kinds) > 1:
        raise FormatError(
            root,
            f"poses as {' and as '.join(found.kinds)}",
            "one distribution",
            action=f"Add --files {found.kinds[0]} or another to say which",
        )
    if found.kinds:
        return found.kinds[0]
    others = [found.metadata, *(path for path, _ in found.pixel), *found.detections]
    if there := [name for name in others if name]:
        raise FormatError(root, f"no 3D poses beside {', '.join(there[:3])}", _LAYOUT_OF_FOLDERS)
    return None


def _pose_files(root: Path, found: Survey, kind: Kind, options: ReadOptions) -> list[tuple[str, int]]:
    if kind == "h5":
        return list(found.h5)
    if options.values["space"] == "camera":
        # a take without files of its cameras is still had from the world
        covered = {key[:3] for key in by_take(found.mono)}
        world = {path: key[:3] for key, (path, _) in by_take(found.world).items()}
        return [*found.mono, *(file for file in found.world if world.get(file[0]) not in covered)]
    if not found.world:
        raise FormatError(
            root,
            "D3_Positions_mono only",
            "S1/MyPoseFeatures/D3_Positions/*.cdf, the poses in the world",
            action="Extract the archives Poses_D3_Positions_S*.tgz too, or use --space camera",
        )
    return list(found.world)


def _files_beside(path: str, files: dict[Key, tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the files that belong to a pose file: of its camera, or of all four."""
    try:
        take = parse_take(path)
    except FormatError:
        return []  # refused when it is read
    takes = [take] if take.camera else [take.seen_by(camera) for camera in CAMERAS]
    return [files[seen.key] for seen in takes if seen.key in files]


def _set_name(root: Path, found: Survey, options: ReadOptions) -> str:
    """Return the name of the set of detections to keep; raises `FormatError`, `UnknownNameError`."""
    names = tuple(found.detections)
    wanted: str = options.values["detections"]
    if wanted and wanted not in names:
        raise UnknownNameError("set of 2D detections", wanted, names)
    if not names:
        raise FormatError(
            root,
            "no 2D detections",
            "data_2d_h36m_NAME.npz (VideoPose3D) or S1/StackedHourglass/*.h5 (3d-pose-baseline)",
            action="Leave out --with detection; --with pixel gives the true pixels",
        )
    if not wanted and len(names) > 1:
        raise FormatError(
            root, f"2D detections of {', '.join(names)}", "one set", action=f"Add --detections {names[0]}"
        )
    return wanted or names[0]


def _detection(joints: tuple[str, ...]) -> Extra:
    return Extra(
        "detection",
        ("detection_joint", "pixel_axis"),
        {"detection_joint": joints, **_PIXEL_LABELS},
        "f4",
        "px",
        "joints as a 2D detector found them, in its own layout; NaN where it has none",
    )


H36M = Reader(
    dataset=Dataset(
        name="h36m",
        title="Human3.6M",
        skeleton="h36m32",
        licence="academic use under the Human3.6M licence agreement; processed poses may not be passed on",
        citation=(
            "C. Ionescu, D. Papava, V. Olaru, C. Sminchisescu. Human3.6M: Large Scale Datasets and "
            "Predictive Methods for 3D Human Sensing in Natural Environments. TPAMI 36(7), 2014"
        ),
        homepage="http://vision.imar.ro/human3.6m",
        frame_rate=FRAME_RATE,
        classes=_FACTS.classes,
        columns=(
            Column("subject", "i4", "subject, 1 to 11"),
            Column("camera", "i4", "id of the camera whose frame the positions are in; 0 for the world's"),
            Column("take", "i4", "number in the file's name, 0 for none"),
            Column("subaction", "i4", "official number within the class, 1 or 2; 0 for a take it lacks"),
            Column("flaw", "string", "drift: annotations drift; video: this camera's video is corrupt"),
        ),
        protocols=_FACTS.protocols,
        missing="never: every joint of every frame has a position",
        axis_map=CAMERA_AXES,
        extras=(
            Extra(
                "pixel",
                ("joint", "pixel_axis"),
                _PIXEL_LABELS,
                "f4",
                "px",
                "true pixels: D2_Positions where the file is there, else projected by the lens model",
            ),
            _detection(load_skeleton("h36m17").names),
        ),
        options=(
            Option("joints", str, "32", "Joints to keep.", ("32", "17")),
            Option(
                "space",
                str,
                "camera",
                "Frame of the positions: a recording a take and camera, or a recording a take in the world.",
                ("camera", "world"),
            ),
            Option("files", str, _AUTO, "Which files, where there are several kinds.", (_AUTO, *_KINDS)),
            Option(
                "detections", str, "", "Set of 2D detections for --with detection, where there are several."
            ),
        ),
        tables=(CAMERA_TABLE,),
    ),
    scan=scan,
    read=read,
    configure=configure,
    own=("*.cdf", "*.h5", "data_?d_h36m*.npz"),
)
