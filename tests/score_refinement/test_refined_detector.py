"""Detectors of all kinds with an embedding beside them: trained, refined, saved and loaded."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections import Counter

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from helpers.batches import make_batch, two_parts_one_parent

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.checkpoint.load_weights import load_trained_weights
from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.score_refinement import RefinedDetector, ScoreRefinementNetwork, ScoreRefiner
from msnet_d2.score_refinement.losses import multi_scale_consistency_loss, triplet_losses
from msnet_d2.score_refinement.refined_detector import detector_of


@pytest.fixture
def srn_cfg(tiny_cfg):
    """A RefinedDetector around the tiny MSNet."""
    tiny_cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    tiny_cfg.MODEL.SRN.DETECTOR = "MSNet"
    tiny_cfg.MODEL.SRN.FC_DIMS = [24, 16]
    tiny_cfg.TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 20
    # Untrained heads find nothing above 0.05 but by chance; lower thresholds give boxes to refine.
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    return tiny_cfg


def with_detector(cfg, name):
    """The config with another detector: Detectron2's own, on the same backbone."""
    model = cfg.MODEL
    model.SRN.DETECTOR = name
    if name != "MSNet":
        model.PROPOSAL_GENERATOR.NAME = "RPN"
    if name == "RetinaNet":
        model.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res3", "res4", "res5"]
        model.RETINANET.NUM_CLASSES = 3
    return cfg


def build(cfg, seed=0):
    torch.manual_seed(seed)
    return build_model(cfg)


def triplet(frames=4, size=(64, 96), seed=0):
    g = torch.Generator().manual_seed(seed)
    return {"triplet": (torch.rand(frames, 3, *size, generator=g) * 255).to(torch.uint8)}


def video(count=3, size=(96, 128), seed=0):
    g = torch.Generator().manual_seed(seed)
    image = (torch.rand(3, *size, generator=g) * 255).to(torch.uint8)
    return [
        {
            "image": image.roll(3 * i, dims=2),
            "height": size[0],
            "width": size[1],
            "video_id": "flight",
            "frame_index": i,
        }
        for i in range(count)
    ]


def with_batch_norm(cfg):
    """Batch normalisation whose statistics training would change."""
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.NORM = "BN"
    return cfg


class TestFrozen:
    def test_only_the_embedding_changes_weights_and_statistics_alike(self, srn_cfg):
        model = build(with_batch_norm(srn_cfg)).train()
        before = copy.deepcopy(model.state_dict())
        trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        assert trainable == [n for n, _ in model.named_parameters() if n.startswith("srn.")]
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        for step in range(2):
            losses = model([triplet(seed=step)])
            assert list(losses) == ["loss_mcl"]
            optimizer.zero_grad()
            losses["loss_mcl"].backward()
            optimizer.step()
        for name, value in model.state_dict().items():
            same = torch.equal(value, before[name])
            assert same != name.startswith("srn."), name

    def test_the_mode_of_the_detector(self, srn_cfg):
        model = build(srn_cfg).train()
        assert model.training
        assert model.srn.training
        assert not model.detector.backbone.training
        assert not any(m.training for m in model.detector.roi_heads.modules())
        assert not model.eval().srn.training

    def test_training_lowers_the_loss(self, srn_cfg):
        model = build(srn_cfg).train()
        # X⁺ is X with a little noise, X⁻ another image: the embedding has something to learn.
        item = triplet(frames=3, seed=3)["triplet"]
        item[1] = (
            (item[0].int() + torch.randint(-9, 9, item[0].shape)).clamp(0, 255).to(torch.uint8)
        )
        item[2] = 20
        optimizer = torch.optim.Adam(model.srn.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            loss = model([{"triplet": item}])["loss_mcl"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_each_frame_goes_through_the_backbone_once(self, srn_cfg):
        model = build(srn_cfg).train()
        frames = []
        model.detector.backbone.register_forward_hook(
            lambda m, args, out: frames.append(len(args[0]))
        )
        model([triplet(frames=5), triplet(frames=4, size=(64, 64))])
        assert frames == [5, 4]

    def test_annotated_images_in_the_batch_are_left_alone(self, srn_cfg):
        model = build(srn_cfg).train()
        images = make_batch(two_parts_one_parent())
        assert list(model([*images, triplet()])) == ["loss_mcl"]

    def test_a_batch_without_triplets(self, srn_cfg):
        with pytest.raises(ConfigError, match="SRN_VIDEOS"):
            build(srn_cfg).train()(make_batch(two_parts_one_parent()))

    def test_what_is_logged(self, srn_cfg):
        with EventStorage() as storage:
            build(srn_cfg).train()([triplet()])
            logged = storage.latest()
        assert {"srn/similarity_positive", "srn/similarity_hardest_negative"} <= set(logged)


class TestJoint:
    def test_both_are_trained(self, srn_cfg):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        model = build(srn_cfg).train()
        batch = [*make_batch(two_parts_one_parent()), triplet()]
        with EventStorage():
            losses = model(batch)
        assert {"loss_mcl", "loss_rpn_parent_cls", "loss_rpn_cls", "loss_mask"} <= set(losses)
        losses["loss_mcl"].backward(retain_graph=True)
        backbone = model.detector.backbone.bottom_up.res4[0].conv1.weight
        assert backbone.grad.abs().sum() > 0  # L_mcl reaches the features
        assert model.detector.roi_heads.box_predictor.cls_score.weight.grad is None
        sum(losses.values()).backward()
        assert model.detector.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
        assert model.detector.backbone.training

    def test_the_detectors_losses_are_those_without_srn(self, srn_cfg):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        joint = build(srn_cfg).train()
        plain_cfg = srn_cfg.clone()
        plain_cfg.MODEL.META_ARCHITECTURE = "MSNet"
        plain = build(plain_cfg).train()
        plain.load_state_dict(
            {k: v for k, v in joint.state_dict().items() if not k.startswith("srn.")}
        )
        images = make_batch(two_parts_one_parent())
        with EventStorage():
            torch.manual_seed(1)
            expected = plain(images)
            torch.manual_seed(1)
            losses = joint([triplet(), *images])
        assert set(losses) - set(expected) == {"loss_mcl"}
        for name, value in expected.items():
            assert torch.equal(losses[name], value)

    def test_weight(self, srn_cfg):
        values = []
        for weight in (1.0, 0.25):
            srn_cfg.MODEL.SRN.LOSS_WEIGHT = weight
            values.append(float(build(srn_cfg).train()([triplet()])["loss_mcl"]))
        assert values[1] == pytest.approx(values[0] / 4)


class TestTripletLoss:
    """With the embedding and features given, so that the figures can be worked out."""

    def network(self):
        net = ScoreRefinementNetwork(
            in_features=["p2", "p3"], in_channels=2, strides=[4, 8], fc_dims=[2]
        )
        with torch.no_grad():  # the identity on what is not negative
            net.layers[0].weight.copy_(torch.eye(2))
            net.layers[0].bias.zero_()
        return net

    def features(self, *directions):
        """Frames whose positions all have one direction, of both levels."""
        x = torch.tensor(directions, dtype=torch.float32)[:, :, None, None]
        return lambda frames: {"p2": x.expand(-1, -1, 4, 4), "p3": x.expand(-1, -1, 2, 2)}

    # X = (1, 0), X⁺ = (4, 3): D⁺ = 0.2. X⁻ = (0, 1), (3, 4), (5, 12) with Sim 0, 0.6, 0.3846.
    # At margin 1 and two levels: 2 (0.2 − (1 − Sim) + 1) = 0.4, 1.6, 1.1692.
    @pytest.mark.parametrize(
        ("k", "expected"),
        [
            (1, 1.6),
            (2, (1.6 + 1.16923) / 2),
            (3, (1.6 + 1.16923 + 0.4) / 3),
            (9, (1.6 + 1.16923 + 0.4) / 3),
        ],
    )
    def test_the_mean_of_the_k_hardest(self, k, expected):
        extract = self.features((1, 0), (4, 3), (0, 1), (3, 4), (5, 12))
        frames = torch.zeros(5, 3, 16, 16)
        loss = triplet_losses(self.network(), extract, [frames], hardest_k=k)["loss_mcl"]
        assert float(loss) == pytest.approx(expected, abs=1e-4)

    def test_margin_weight_and_two_triplets(self):
        # The second triplet's loss is the first's, so the mean is as well: 2 · max(0, 0.2 − 0.4 +
        # 0.5) = 0.6.
        extract = self.features((1, 0), (4, 3), (3, 4))
        frames = [torch.zeros(3, 3, 16, 16)] * 2
        loss = triplet_losses(self.network(), extract, frames, margin=0.5, loss_weight=3.0)[
            "loss_mcl"
        ]
        assert float(loss) == pytest.approx(1.8, abs=1e-5)

    def test_padding_does_not_count(self):
        """Frames of 10 × 16 have 3 × 4 positions of stride 4, and 2 × 2 of stride 8; the rest is
        padding."""
        x = torch.zeros(3, 2, 8, 8)
        x[:, 0, :3, :4] = 1  # the same everywhere in all frames
        x[2, :, 3:] = 7  # rubbish in the padding
        y = torch.zeros(3, 2, 4, 4)
        y[:, 0, :2, :2] = 1
        y[0, 1, 2:] = 7
        loss = triplet_losses(
            self.network(), lambda f: {"p2": x, "p3": y}, [torch.zeros(3, 3, 10, 16)]
        )["loss_mcl"]
        assert float(loss) == pytest.approx(2.0)  # D⁺ = D⁻ = 0 on both levels, margin 1

    def test_equals_the_loss_over_all_frames_at_once(self, srn_cfg):
        model = build(srn_cfg)
        frames = triplet(frames=6)["triplet"]
        with torch.no_grad():
            images = model.detector.preprocess_image([{"image": f} for f in frames])
            features = model.detector.backbone(images.tensor)
            embedded = list(model.srn(features).values())
            each = multi_scale_consistency_loss(
                [x[:1].expand(4, -1, -1, -1) for x in embedded],
                [x[1:2].expand(4, -1, -1, -1) for x in embedded],
                [x[2:] for x in embedded],
                1.0,
            )
        got = model.train()([{"triplet": frames}])["loss_mcl"]
        assert float(got) == pytest.approx(float(each.max()), abs=1e-5)

    def test_a_triplet_without_a_negative(self):
        with pytest.raises(ValueError, match="one or more negatives"):
            triplet_losses(self.network(), self.features((1, 0)), [torch.zeros(2, 3, 8, 8)])


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
        assert set(refined) == {*plain, "thumbnail"}
        assert set(refined["instances"].get_fields()) == {*fields, "embeddings"}
        for name, value in fields.items():
            ours = refined["instances"].get(name)
            assert torch.equal(getattr(ours, "tensor", ours), getattr(value, "tensor", value))

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


class TestStateDict:
    """A detector's checkpoint and that of the same detector refined differ by ``srn.*`` alone."""

    def test_names(self, srn_cfg):
        model = build(srn_cfg)
        names = {f"srn.{name}" for name in model.srn.state_dict()}
        assert set(model.state_dict()) == set(model.detector.state_dict()) | names

    def test_what_is_saved_is_loaded(self, srn_cfg):
        saved, model = build(srn_cfg, seed=1).state_dict(), build(srn_cfg, seed=2)
        model.load_state_dict(saved)
        assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())

    def test_within_another_module(self, srn_cfg):
        saved = torch.nn.ModuleDict({"module": build(srn_cfg, seed=1)}).state_dict()
        assert "module.backbone.fpn_output2.weight" in saved
        other = torch.nn.ModuleDict({"module": build(srn_cfg, seed=2)})
        other.load_state_dict(saved)
        assert all(torch.equal(v, saved[k]) for k, v in other.state_dict().items())

    def test_a_copy_is_loaded_and_saved_by_itself(self, srn_cfg):
        model = build(srn_cfg)
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert list(twin.state_dict()) == list(model.state_dict())
        twin.load_state_dict(build(srn_cfg, seed=2).state_dict())
        assert not torch.equal(twin.srn.layers[0].weight, model.srn.layers[0].weight)

    def test_a_detectors_weights_without_the_embeddings(self, srn_cfg):
        model, other = build(srn_cfg, seed=1), build(srn_cfg, seed=2)
        missing = model.load_state_dict(other.detector.state_dict(), strict=False)
        assert set(missing.missing_keys) == {f"srn.{name}" for name in model.srn.state_dict()}
        assert not missing.unexpected_keys
        with pytest.raises(RuntimeError, match=r"srn\.layers\.0"):
            model.load_state_dict(other.detector.state_dict())

    @pytest.mark.parametrize("digest", [False, True])
    def test_a_checkpoint_of_an_msnet_with_srn(self, srn_cfg, tmp_path, digest):
        """As it was saved before RefinedDetector, with and without #sha256= behind its path."""
        model, path = build(srn_cfg, seed=1), tmp_path / "srn.pth"
        old = {**model.detector.state_dict()}
        old |= {f"srn.{name}": value for name, value in model.srn.state_dict().items()}
        torch.save({"model": old}, path)
        weights = str(path)
        if digest:
            weights += "#sha256=" + hashlib.sha256(path.read_bytes()).hexdigest()
        fresh = build(srn_cfg, seed=2)
        load_trained_weights(fresh, weights)
        assert all(torch.equal(v, old[k]) for k, v in fresh.state_dict().items())
        if digest:
            with pytest.raises(WeightsError, match="SHA-256"):
                load_trained_weights(fresh, weights[:-4] + "0000")

    def test_an_embedding_of_another_shape(self, srn_cfg, tmp_path):
        torch.save({"model": build(srn_cfg).state_dict()}, tmp_path / "srn.pth")
        srn_cfg.MODEL.SRN.FC_DIMS = [24, 12]
        with pytest.raises(WeightsError, match=r"srn\.layers\.1\.weight"):
            load_trained_weights(build(srn_cfg), str(tmp_path / "srn.pth"))

    def test_a_detectors_checkpoint_alone(self, srn_cfg, tmp_path):
        """Training begins with it; inference lacks the embedding, unless that has no layers."""
        torch.save({"model": build(srn_cfg).detector.state_dict()}, tmp_path / "detector.pth")
        model = build(srn_cfg)
        checkpointer = MSNetCheckpointer(model)
        checkpointer.load(str(tmp_path / "detector.pth"))
        assert not checkpointer.report.suspicious
        assert "the embedding is untrained" in checkpointer.report.table()
        with pytest.raises(WeightsError, match=r"srn\.layers\.0"):
            load_trained_weights(model, str(tmp_path / "detector.pth"))
        srn_cfg.MODEL.SRN.FC_DIMS = []
        load_trained_weights(build(srn_cfg), str(tmp_path / "detector.pth"))

    def test_a_plain_detector_takes_a_refined_ones_checkpoint(self, srn_cfg, tmp_path):
        torch.save({"model": build(srn_cfg).state_dict()}, tmp_path / "refined.pth")
        checkpointer = MSNetCheckpointer(build(srn_cfg, seed=2).detector)
        checkpointer.load(str(tmp_path / "refined.pth"))
        assert not checkpointer.report.suspicious
        assert "this model refines no scores" in checkpointer.report.table()


def test_each_parameter_belongs_to_the_detector_or_the_embedding(srn_cfg):
    parts = Counter(name.split(".")[0] for name, _ in build(srn_cfg).named_parameters())
    assert set(parts) == {"detector", "srn"}
    assert parts["srn"] == 4
