"""Make a map of damaged buildings from drone videos and their flight logs.

Finds damage in every video, places it on the ground, follows each building over frames, revisits
and videos, and writes one entry a building: index.html (opens without a network), damage.geojson,
damage.gpkg, damage.kmz and buildings.csv, all into the folder --out.

  msnet map flight.mp4 --config-file output/run/config.yaml --out map
  msnet map flight.mp4 --results found.json --out map   (of msnet video)

Flight logs: subtitles of DJI and Autel (.srt), GPX, KML, GeoJSON or CSV. A log beside the video
with its name is found by itself. Without a log there is no map, but the page, the tables and the
marked videos. What the log says is compared with how the picture moves; a map whose places may be
wrong says so, with the likeliest cause and the option that mends it, and the exit code is 1.

With several videos, or a folder of them, those that cannot be used are named and left out; the exit
code is then 1. Many or long videos can be detected in by several processes or machines:

  msnet map videos/ --config-file run/config.yaml --out map --num-workers 4

What is done is kept in map.detections beside the map: run the same again to do only the rest.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from msnet_d2.cli.options import (
    acceleration_of,
    add_model_options,
    add_option,
    add_options,
    add_overrides,
)
from msnet_d2.cli.parameters import in_options

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
    add(
        "--reviews",
        metavar="FILE",
        help="what the page of an earlier map exported (JSON or CSV): who checked which building, "
        "and the notes",
    )
    add_options(found, "--batch-size", "--stride", "--no-progress")
    many = parser.add_argument_group("many videos")
    add = many.add_argument
    add_option(many, "--num-workers", help="detect in N processes of this machine")
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="detect on a Ray cluster (extra: ray), such as auto or HOST:PORT",
    )
    # Until the next release: --ray-address says the same.
    add("--workers", choices=("ray",), help=argparse.SUPPRESS)
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
    add(
        "--align",
        choices=("auto", "check", "off"),
        default="auto",
        help="compare the log's motion with the picture's: mend the log where that is sure, say "
        "only what does not fit, or do neither (default: %(default)s)",
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
    gcp = "ground control points (CSV: x, y, frame, lat, lon, height)"
    add("--gcp", metavar="FILE", help=gcp)
    # Its name until the next release.
    add("--control", dest="gcp", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
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
    from msnet_d2.damage_map.buildings.assessment import Rules
    from msnet_d2.damage_map.geometry.flight import FlightOptions
    from msnet_d2.damage_map.output.folder import check_folder
    from msnet_d2.damage_map.pipeline import make_map
    from msnet_d2.damage_map.reviews import read_reviews
    from msnet_d2.damage_map.telemetry.flight_csv import parse_columns
    from msnet_d2.damage_map.videos import find_videos
    from msnet_d2.errors import InputError

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
    parallel = [
        o for o in ("num_workers", "ray_address", "workers") if getattr(args, o) is not None
    ]
    if parallel and args.results is not None:
        option = parallel[0].replace("_", "-")
        raise InputError(f"--{option} and --results contradict each other; give one")
    if args.num_workers is not None and len(parallel) > 1:
        raise InputError(
            "--num-workers is for processes of this machine, and a Ray cluster has the workers it "
            "has; give one"
        )
    check_folder(Path(args.out), [p for p in (args.config_file, args.weights, args.reviews) if p])
    reviews = () if args.reviews is None else read_reviews(args.reviews)
    videos, left_out = find_videos(args.videos)
    if len(videos) == 1 and not videos[0].exists():
        raise InputError(f"the video {videos[0]} does not exist")
    options = FlightOptions(
        telemetry_offset=args.telemetry_offset,
        takeoff_altitude=args.takeoff_altitude,
        takeoff_elevation=args.takeoff_elevation,
        elevation=args.elevation,
        elevation_crs=args.elevation_crs,
        gps_order=args.gps_order and f"{args.gps_order[:3]},{args.gps_order[3:]}",
        columns=parse_columns(args.columns) if args.columns else None,
        pitch=args.pitch,
        yaw=args.yaw,
        hfov=args.hfov,
        camera=args.camera,
        gcp=args.gcp,
        building_height=args.building_height,
        roof_height=args.roof_height,
        align=args.align,
    )
    with _detector(args, videos) as detector:
        summary = make_map(
            videos,
            args.out,
            detector=detector,
            results=args.results,
            telemetry=args.telemetry,
            use_telemetry=not args.no_telemetry,
            options=options,
            rules=Rules(min_confidence=args.min_confidence),
            min_score=args.min_score,
            reviews=reviews,
            left_out=left_out,
            progress=not args.no_progress,
        )
    return _tell(summary)


@contextmanager
def _detector(args: argparse.Namespace, videos: list[Path]):
    """What detects in the videos; None where there are results already."""
    if args.results is not None:
        yield None
        return
    from msnet_d2.checkpoint import trained_weights
    from msnet_d2.config import load_config
    from msnet_d2.video.detector import VideoDetector

    cfg = load_config(args.config_file, args.opts, device=args.device)
    detector = VideoDetector.from_config(
        cfg,
        args.weights or trained_weights(cfg, args.config_file, args.opts),
        batch_size=args.batch_size,
        stride=args.stride,
        allow_partial_weights=args.allow_partial_weights,
        acceleration=acceleration_of(args),
    )
    backend = _backend(args)
    if backend is None:
        yield detector
        return
    from msnet_d2.video.distributed.parallel import ParallelDetection

    out = Path(args.out).absolute()
    kept = out.with_name(out.name + ".detections")
    with ParallelDetection(videos, detector, kept, backend, chunk_s=args.chunk_seconds) as parallel:
        yield parallel


def _backend(args: argparse.Namespace):
    """Where chunks of videos are run; None: in this process."""
    if args.ray_address is not None or args.workers == "ray":
        from msnet_d2.video.distributed.ray_workers import import_ray, run_on_ray

        import_ray()
        return partial(run_on_ray, address=args.ray_address)
    if args.num_workers is not None:
        from msnet_d2.video.distributed.processes import run_in_processes

        return partial(run_in_processes, workers=args.num_workers)
    return None


def _tell(summary) -> int:
    import sys

    from msnet_d2.cli import EXIT_OK, EXIT_PROBLEMS
    from msnet_d2.utils.text import printable

    found = ", ".join(f"{name} {count}" for name, count in summary.buildings.items())
    print(f"{summary.total} damaged buildings ({found}), {summary.parts} damaged parts")
    if summary.total:
        print(f"{summary.placed} have a place, {summary.to_review} need review")
    for line in summary.notes:
        print(f"Note: {in_options(line)}")
    for line in summary.doubts:
        print(f"DOUBTFUL: {in_options(line)}", file=sys.stderr)
    for line in summary.problems:
        print(f"Problem: {printable(in_options(line))}", file=sys.stderr)
    print(f"Open {summary.out / 'index.html'}")
    return EXIT_PROBLEMS if summary.problems or summary.doubts else EXIT_OK
