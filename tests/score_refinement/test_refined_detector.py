"""Detectors of all kinds with an embedding beside them, over frames of videos."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances
from helpers.refined import build, video, with_detector

from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.modeling.output_guard import guard_outputs
from msnet_d2.score_refinement import RefinedDetector, ScoreRefinementNetwork, ScoreRefiner
from msnet_d2.score_refinement.homography import gray_image
from msnet_d2.score_refinement.refined_detector import detector_of


class TestInference:
    @pytest.mark.parametrize("detector", ["MSNet", "GeneralizedRCNN", "RetinaNet"])
    def test_frames_of_videos_are_embedded(self, srn_cfg, detector):
        model = build(with_detector(srn_cfg, detector)).eval()
        frames = video(3)
        del frames[1]["video_id"]
        frames[2]["video_id"] = None
        with torch.no_grad():
            first, *others = model(frames)
        n = len(first["instances"])
        assert n > 0
        assert first["instances"].embeddings.shape == (n, 16, 7, 7)
        assert first["thumbnail"].shape == (64, 64)
        for other in others:
            assert not other["instances"].has("embeddings")
            assert "thumbnail" not in other

    @pytest.mark.parametrize("detector", ["MSNet", "GeneralizedRCNN", "RetinaNet"])
    def test_detections_are_the_detectors(self, srn_cfg, detector):
        model = build(with_detector(srn_cfg, detector)).eval()
        with torch.no_grad():
            refined, plain = model(video(1))[0], model.detector(video(1))[0]
        fields = plain["instances"].get_fields()
        assert set(refined) == {*plain, "thumbnail", "gray"}
        assert set(refined["instances"].get_fields()) == {*fields, "embeddings"}
        for name, value in fields.items():
            ours = refined["instances"].get(name)
            assert torch.equal(getattr(ours, "tensor", ours), getattr(value, "tensor", value))

    def test_refinement_by_geometry_needs_a_picture_alone(self, srn_cfg):
        srn_cfg.TEST.SCORE_REFINEMENT.RULE = "geometry"
        model = build(srn_cfg).eval()
        with torch.no_grad():
            (output,) = model(video(1))
        assert not output["instances"].has("embeddings")
        assert "thumbnail" not in output
        assert torch.equal(output["gray"], gray_image(video(1)[0]["image"]))

    def test_the_embedding_of_a_frame_is_the_dense_one(self, srn_cfg):
        """Through the whole model, with the output twice as large as the network's input."""
        model = build(srn_cfg).eval()
        frame = {**video(1)[0], "height": 192, "width": 256}
        with torch.no_grad():
            (output,) = model([frame])
            boxes = output["instances"].pred_boxes
            detector = model.detector
            features = detector.backbone(detector.preprocess_image([frame]).tensor)
            half = boxes.clone()
            half.scale(0.5, 0.5)
            dense = model.srn(features)
            pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
            expected = pooler([dense[n] for n in ("p2", "p3", "p4", "p5")], [half])
        assert torch.allclose(output["instances"].embeddings, expected, atol=1e-4)

    def test_boxes_are_scaled_to_the_networks_input(self, srn_cfg, monkeypatch):
        model = build(srn_cfg).eval()
        seen = []
        monkeypatch.setattr(
            model.srn, "embed_boxes", lambda f, b: seen.append(b[0].tensor) or torch.zeros(1, 1)
        )
        boxes = Boxes(torch.tensor([[10.0, 20, 30, 40]]))
        instances = Instances((100, 100), pred_boxes=boxes, scores=torch.ones(1))
        model._embed({"instances": instances}, {}, torch.zeros(3, 50, 200))
        assert seen[0].tolist() == [[20.0, 10.0, 60.0, 20.0]]
        assert boxes.tensor.tolist() == [[10.0, 20, 30, 40]]

    def test_each_frame_of_a_batch_has_its_own_embeddings(self, srn_cfg):
        model = build(srn_cfg).eval()
        frames = video(2)
        with torch.no_grad():
            batch = model(frames)
            alone = [model([frame])[0] for frame in frames]
        for one, other in zip(batch, alone):
            torch.testing.assert_close(
                one["instances"].embeddings, other["instances"].embeddings, atol=1e-2, rtol=1e-3
            )

    def test_without_layers_the_embedding_are_the_features(self, srn_cfg):
        srn_cfg.MODEL.SRN.FC_DIMS = []
        model = build(srn_cfg).eval()
        assert not list(model.srn.parameters())
        with torch.no_grad():
            (output,) = model(video(1))
            features = model.detector.backbone(model.detector.preprocess_image(video(1)).tensor)
            pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
            maps = [features[n] for n in ("p2", "p3", "p4", "p5")]
            expected = pooler(maps, [output["instances"].pred_boxes])
        assert torch.allclose(output["instances"].embeddings, expected, atol=1e-4)

    def test_a_detector_without_instances(self, srn_cfg):
        model = build(with_detector(srn_cfg, "ProposalNetwork")).eval()
        with pytest.raises(ConfigError, match="ProposalNetwork returns no instances"):
            model(video(1))

    def test_a_broken_backbone_is_noticed(self, srn_cfg):
        model = build(srn_cfg).eval()
        guard_outputs(model)
        model.detector.backbone.fpn_output2.weight.data.fill_(float("nan"))
        with pytest.raises(WeightsError, match="backbone"), torch.no_grad():
            model(video(1))

    def test_nothing_is_left_on_the_detector(self, srn_cfg):
        model = build(srn_cfg).eval()
        with torch.no_grad():
            model(video(2))
        assert not model.detector.backbone._forward_hooks


class TestStream:
    @pytest.mark.parametrize("neighbors", ["previous", "next", "both"])
    @pytest.mark.parametrize("detector", ["GeneralizedRCNN", "RetinaNet"])
    def test_scores_of_a_stock_detector_are_refined(self, srn_cfg, neighbors, detector):
        model = build(with_detector(srn_cfg, detector)).eval()
        srn_cfg.TEST.SCORE_REFINEMENT.NEIGHBORS = neighbors
        srn_cfg.TEST.SCORE_REFINEMENT.SCORE_RANGE = (0.0, 1.0)
        outputs = stream(model, ScoreRefiner(srn_cfg), video(3))

        with torch.no_grad():
            plain = [model.detector([frame])[0]["instances"] for frame in video(3)]
        assert len(outputs) == 3
        for output, raw in zip(outputs, plain):
            instances = output["instances"]
            assert torch.equal(instances.scores_raw, raw.scores)
            assert torch.equal(instances.pred_boxes.tensor, raw.pred_boxes.tensor)
            assert torch.equal(instances.pred_classes, raw.pred_classes)
            if raw.has("pred_masks"):
                assert torch.equal(instances.pred_masks, raw.pred_masks)
        refined_frames = {"previous": {1, 2}, "next": {0, 1}, "both": {0, 1, 2}}[neighbors]
        for i, output in enumerate(outputs):
            has_match = not output["instances"].match_similarity.isnan().all()
            assert has_match == (i in refined_frames)

    def test_outputs_are_refined_in_another_process(self, srn_cfg):
        """They go there and come back through queues, and nothing of the model with them."""
        model = build(srn_cfg).eval()
        srn_cfg.TEST.SCORE_REFINEMENT.SCORE_RANGE = (0.0, 1.0)
        context = torch.multiprocessing.get_context("fork")
        there, back = context.Queue(), context.Queue()
        process = context.Process(target=refine_queue, args=(srn_cfg, there, back))
        process.start()
        frames = video(4)
        with torch.no_grad():
            for frame in frames:
                (output,) = model([frame])
                there.put(pickle.dumps((frame["frame_index"], output)))
        there.put(None)
        got = [back.get(timeout=60) for _ in frames]
        process.join(timeout=60)
        assert process.exitcode == 0
        expected = stream(model, ScoreRefiner(srn_cfg), frames)
        for (scores, tracks), output in zip(got, expected):
            assert scores == output["instances"].scores.tolist()
            assert tracks == output["instances"].track_id.tolist()
        assert any(o["instances"].scores.ne(o["instances"].scores_raw).any() for o in expected)

    def test_tensors_of_outputs_go_through_a_queue_of_torch(self, srn_cfg):
        model = build(srn_cfg).eval()
        queue = torch.multiprocessing.get_context("fork").Queue()
        with torch.no_grad():
            (output,) = model(video(1))
        queue.put(output)
        received = queue.get(timeout=60)
        for name, value in output["instances"].get_fields().items():
            other = received["instances"].get(name)
            assert torch.equal(getattr(value, "tensor", value), getattr(other, "tensor", other))
        assert torch.equal(received["thumbnail"], output["thumbnail"])


def stream(model, refiner, frames):
    outputs = []
    with torch.no_grad():
        for frame in frames:
            (output,) = model([frame])
            outputs += refiner.update(
                output, video_id=frame["video_id"], frame_index=frame["frame_index"]
            )
    return outputs + refiner.flush()


def refine_queue(cfg, there, back):
    """What another process does with the outputs of a model that it does not have."""
    refiner = ScoreRefiner(cfg)
    for index, output in map(pickle.loads, iter(there.get, None)):
        for done in refiner.update(output, video_id="flight", frame_index=index):
            instances = done["instances"]
            back.put((instances.scores.tolist(), instances.track_id.tolist()))


class TestConstruction:
    @pytest.mark.parametrize("name", ["NoSuchNet", "RefinedDetector", ""])
    def test_an_unknown_detector(self, srn_cfg, name):
        srn_cfg.MODEL.SRN.DETECTOR = name
        with pytest.raises(ConfigError, match="DETECTOR is .* no detector; there are: .*RetinaNet"):
            build_model(srn_cfg)

    def test_maps_that_the_detector_lacks(self, srn_cfg):
        detector = build(srn_cfg).detector
        srn = ScoreRefinementNetwork(in_features=["p9"], in_channels=32, strides=[4])
        with pytest.raises(ConfigError, match=r"\['p9'\]"):
            RefinedDetector(detector=detector, srn=srn)
        with pytest.raises(ConfigError, match="Linear has no backbone"):
            RefinedDetector(detector=torch.nn.Linear(1, 1), srn=srn)

    def test_the_pyramid_of_retinanet_begins_with_p3(self, srn_cfg):
        model = build(with_detector(srn_cfg, "RetinaNet"))
        assert model.srn.in_features == ["p3", "p4", "p5"]

    def test_a_detector_without_a_config_of_its_own(self, srn_cfg):
        """Detectron2's FCOS takes explicit arguments alone."""
        names = ["p3", "p4", "p5"]
        backbone = build(srn_cfg).detector.backbone
        shapes = [ShapeSpec(channels=32, stride=stride) for stride in (8, 16, 32)]
        fcos = FCOS(
            backbone=backbone,
            head=FCOSHead(input_shape=shapes, num_classes=3, conv_dims=[32]),
            head_in_features=names,
            num_classes=3,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
            test_score_thresh=0.0,
        )
        model = RefinedDetector(
            detector=fcos, srn=ScoreRefinementNetwork(srn_cfg, backbone.output_shape())
        ).eval()
        outputs = stream(model, ScoreRefiner(), video(2))
        assert len(outputs[1]["instances"]) > 0
        assert not outputs[1]["instances"].match_similarity.isnan().all()

    def test_the_detector_inside_a_wrapper(self, srn_cfg):
        model = build(srn_cfg)
        assert detector_of(model) is model.detector
        assert detector_of(torch.nn.DataParallel(model)) is model.detector
        assert detector_of(model.detector) is model.detector


def test_each_parameter_belongs_to_the_detector_or_the_embedding(srn_cfg):
    parts = Counter(name.split(".")[0] for name, _ in build(srn_cfg).named_parameters())
    assert set(parts) == {"detector", "srn"}
    assert parts["srn"] == 4
