"""Make a map of damaged buildings from drone videos and their flight logs.

Finds damage in every video, places it on the ground, follows each building over frames, revisits
and videos, and writes one entry a building: index.html (opens without a network), damage.geojson,
damage.gpkg, damage.kmz and buildings.csv, all into the folder --out.

  msnet map flight.mp4 --config-file output/run/config.yaml --out map
  msnet map flight.mp4 --results found.json --out map   (of msnet video)

Flight logs: DJI subtitles (.srt), GPX or CSV. A log beside the video with its name is found by
itself. Without a log there is no map, but the page, the tables and the marked videos.

With several videos, or a folder of them, those that cannot be used are named and left out; the exit
code is then 1. Many or long videos can be detected in by several processes or machines:

  msnet map videos/ --workers ray --config-file output/run/config.yaml --out map

What is done is kept in map.detections beside the map: run the same again to do only the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.options import (
    acceleration_of,
    add_model_options,
    add_option,
    add_options,
    add_overrides,
)

HELP = "make a map of damaged buildings from videos and flight logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="videos, or folders of videos or of frames")
    add("--out", required=True, metavar="DIR", help="folder of the map; an earlier map is replaced")
    found = parser.add_argument_group("detection")
    add = found.add_argument
    add_model_options(found)
    add(
        "--results",
        nargs="+",
        metavar="FILE",
        help="what `msnet video --results` wrote for each video, instead of detecting again",
    )
    add_option(found, "--min-score", default=0.3)
    add(
        "--min-confidence",
        type=float,
        default=0.5,
        metavar="S",
        help='a building below this is "not assessed" (default: %(default)s)',
    )
    add_options(found, "--batch-size", "--stride", "--no-progress")
    many = parser.add_argument_group("many videos")
    add = many.add_argument
    add("--workers", choices=("ray",), help="detect in parallel by Ray (extra: ray)")
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="cluster; default: that of RAY_ADDRESS, else one on this machine",
    )
    add_option(many, "--num-workers", help="processes on this machine (default: cores)")
    add(
        "--chunk-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="length of the pieces of long videos (default: %(default)s)",
    )
    log = parser.add_argument_group("flight log")
    add = log.add_argument
    add("--telemetry", nargs="+", metavar="FILE", help="log of all videos, or one of each")
    add("--no-telemetry", action="store_true", help="use no log, also where there is one")
    add(
        "--telemetry-offset",
        type=float,
        metavar="S",
        help="the log's time in seconds at the video's first frame",
    )
    add("--takeoff-altitude", type=float, metavar="M", help="what the log shows at take-off")
    add(
        "--gps-order",
        type=lambda text: text.replace(",", ""),  # "lat,lon", for one release more
        choices=("latlon", "lonlat"),
        help="order within DJI's GPS(a, b)",
    )
    add(
        "--columns",
        nargs="+",
        metavar="FIELD=HEADER",
        help="columns of a CSV log, such as lat=Latitude",
    )
    camera = parser.add_argument_group("camera and ground")
    add = camera.add_argument
    add("--pitch", type=float, metavar="DEG", help="gimbal pitch where the log has none; -90 down")
    add("--yaw", type=float, metavar="DEG", help="gimbal yaw where the log has none; 90 is east")
    add("--hfov", type=float, metavar="DEG", help="horizontal field of view")
    add("--camera", metavar="FILE", help="calibration (JSON: fx, fy, cx, cy, distortion)")
    add("--control", metavar="FILE", help="control points (CSV: x, y, frame, lat, lon, height)")
    add("--elevation", metavar="FILE", help="elevation raster (.asc, .tif); default: flat ground")
    add("--elevation-crs", metavar="CRS", help="its coordinate system, where the file has none")
    add("--takeoff-elevation", type=float, metavar="M", help="the raster's height at take-off")
    add(
        "--building-height",
        type=float,
        default=4.5,
        metavar="M",
        help="height of roofs' far edges, first guess (default: %(default)s)",
    )
    add(
        "--roof-height",
        type=float,
        default=4.0,
        metavar="M",
        help="height of damaged parts on roofs (default: %(default)s)",
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Make the map and say what is in it."""
    from contextlib import nullcontext

    from msnet_d2.damage_map.buildings.assessment import Rules
    from msnet_d2.damage_map.geometry.flight import FlightOptions
    from msnet_d2.damage_map.output.folder import check_folder
    from msnet_d2.damage_map.pipeline import find_videos, make_map
    from msnet_d2.damage_map.telemetry.flight_csv import parse_columns
    from msnet_d2.errors import InputError
    from msnet_d2.utils.locks import hold

    for option in ("min_score", "min_confidence"):
        if not 0 <= getattr(args, option) <= 1:
            name = option.replace("_", "-")
            raise InputError(f"--{name} is a score from 0 to 1, got {getattr(args, option)}")
    for option in ("batch_size", "stride", "num_workers"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} must be at least 1, got {value}")
    if args.no_telemetry and args.telemetry:
        raise InputError("--telemetry and --no-telemetry contradict each other; give one")
    if args.results is None and not args.config_file:
        raise InputError("give --config-file of a trained model, or --results of `msnet video`")
    if not 1 <= args.chunk_seconds <= 86400:
        raise InputError(
            f"--chunk-seconds {args.chunk_seconds}: expected seconds from 1 to 86400 (a day)"
        )
    if args.workers is None:
        for option in ("ray_address", "num_workers"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option.replace('_', '-')} needs --workers ray")
    elif args.results is not None:
        raise InputError("--workers and --results contradict each other; give one")
    check_folder(Path(args.out), [p for p in (args.config_file, args.weights) if p])
    videos = find_videos(args.videos)
    if len(videos) == 1 and not videos[0].exists():
        raise InputError(f"the video {videos[0]} does not exist")
    options = FlightOptions(
        offset_s=args.telemetry_offset,
        takeoff_altitude=args.takeoff_altitude,
        takeoff_elevation=args.takeoff_elevation,
        elevation=args.elevation,
        elevation_crs=args.elevation_crs,
        gps_order=args.gps_order and f"{args.gps_order[:3]},{args.gps_order[3:]}",
        columns=parse_columns(args.columns) if args.columns else None,
        pitch=args.pitch,
        yaw=args.yaw,
        hfov=args.hfov,
        camera_file=args.camera,
        control=args.control,
        building_height=args.building_height,
        roof_height=args.roof_height,
    )
    # Ray keeps what it detects beside the map.
    kept = hold(_detections(args), "a map") if args.workers else nullcontext()
    with kept, _detector(args, videos) as detect:
        summary = make_map(
            videos,
            args.results,
            args.out,
            telemetry=args.telemetry,
            use_telemetry=not args.no_telemetry,
            options=options,
            rules=Rules(min_confidence=args.min_confidence),
            min_score=args.min_score,
            detect=detect,
        )
    return _tell(summary)


def _detector(args: argparse.Namespace, videos: list[Path]):
    """A context whose value detects in a video; None where there are results already."""
    from contextlib import nullcontext

    if args.results is not None:
        return nullcontext()
    if args.workers is None:
        return nullcontext(_own_detector(args))
    return _ray_detector(args, videos)


def _config(args: argparse.Namespace):
    """The configuration, with the weights to use in it."""
    from msnet_d2.checkpoint import trained_weights
    from msnet_d2.config import load_config

    cfg = load_config(args.config_file, args.opts, device=args.device).clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = args.weights or trained_weights(cfg, args.config_file, args.opts)
    return cfg


def _batch_size(args: argparse.Namespace, cfg) -> int:
    return args.batch_size or (4 if cfg.MODEL.DEVICE.startswith("cuda") else 1)


def _ray_detector(args: argparse.Namespace, videos: list[Path]):
    """Detection by Ray; what it finds is kept beside the map."""
    import torch

    from msnet_d2.errors import WeightsError
    from msnet_d2.utils.weight_files import fetch_weights
    from msnet_d2.video.distributed.chunks import DetectorSettings
    from msnet_d2.video.distributed.ray_workers import RayDetection, import_ray

    import_ray()
    cfg = _config(args)
    if not cfg.MODEL.WEIGHTS:
        raise WeightsError("no weights: MODEL.WEIGHTS is empty; name a checkpoint by --weights")
    weights = fetch_weights(cfg.MODEL.WEIGHTS)
    settings = DetectorSettings(
        config=cfg.dump(),
        weights=str(Path(weights.path).resolve()),
        batch_size=_batch_size(args, cfg),
        stride=args.stride,
        allow_partial_weights=args.allow_partial_weights,
        acceleration=acceleration_of(args).resolved(torch.device(cfg.MODEL.DEVICE)),
    )
    return RayDetection(
        videos,
        settings,
        _detections(args),
        weights_sha256=weights.sha256,
        address=args.ray_address,
        workers=args.num_workers,
        chunk_s=args.chunk_seconds,
        min_score=args.min_score,
        progress=not args.no_progress,
    )


def _detections(args: argparse.Namespace) -> Path:
    out = Path(args.out).absolute()
    return out.with_name(out.name + ".detections")


def _own_detector(args: argparse.Namespace):
    """A function that detects in a video; the model is built once, for the first of them."""
    from functools import cache

    @cache
    def predictor():
        from msnet_d2.inference.predictor import Predictor

        cfg = _config(args)
        return cfg, Predictor(
            cfg,
            allow_partial_weights=args.allow_partial_weights,
            acceleration=acceleration_of(args),
        )

    def detect(video, results, marked) -> None:
        from msnet_d2.score_refinement.refiner import ScoreRefiner
        from msnet_d2.video.detections import StreamDetector, describe_model
        from msnet_d2.video.pipeline import process_video
        from msnet_d2.video.reader import VideoReader

        with VideoReader(video, stride=args.stride) as reader:
            cfg, model = predictor()
            refiner = ScoreRefiner(cfg) if cfg.MODEL.SRN.ENABLED else None
            done = process_video(
                reader,
                StreamDetector(model, refiner, video_id=reader.info.name),
                metadata=model.metadata,
                out=marked,
                results=results,
                results_min_score=args.min_score,
                batch_size=_batch_size(args, cfg),
                stride=args.stride,
                model=describe_model(model, refiner),
                progress=not args.no_progress,
            )
        if done.status == "interrupted":
            raise KeyboardInterrupt

    return detect


def _tell(summary) -> int:
    import sys

    from msnet_d2.cli import EXIT_OK, EXIT_PROBLEMS

    found = ", ".join(f"{name} {count}" for name, count in summary.buildings.items())
    print(f"{summary.total} damaged buildings ({found}), {summary.parts} damaged parts")
    if summary.total:
        print(f"{summary.placed} have a place, {summary.to_review} need review")
    for line in summary.notes:
        print(f"Note: {line}")
    for line in summary.problems:
        print(f"Problem: {line}", file=sys.stderr)
    print(f"Open {summary.out / 'index.html'}")
    return EXIT_PROBLEMS if summary.problems else EXIT_OK
