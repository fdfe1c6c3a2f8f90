"""A detector with f beside it: frozen and joint training, and refinement around whole models."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.score_refinement import RefinedModel, ScoreRefinementNetwork, ScoreRefiner, load_srn
from msnet_d2.score_refinement.losses import multi_scale_consistency_loss
from msnet_d2.score_refinement.refinement_frame import FRAME_KEY
from msnet_d2.score_refinement.triplet_loss import triplet_losses


@pytest.fixture
def srn_cfg(tiny_cfg):
    tiny_cfg.MODEL.SRN.ENABLED = True
    tiny_cfg.MODEL.SRN.FC_DIMS = [24, 16]
    tiny_cfg.MODEL.SRN.CUT_THRESHOLD = 0.0
    return tiny_cfg


def build(cfg, seed=0):
    torch.manual_seed(seed)
    model = build_model(cfg)
    # Untrained heads find nothing above 0.05 but by chance; a lower threshold gives boxes to
    # refine.
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    return model


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
    def test_only_f_changes_weights_and_statistics_alike(self, srn_cfg):
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
        assert not model.backbone.training
        assert not any(m.training for m in model.roi_heads.modules())
        assert not model.eval().srn.training

    def test_training_lowers_the_loss(self, srn_cfg):
        model = build(srn_cfg).train()
        # X⁺ is X with a little noise, X⁻ another picture: f has something to learn.
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
        model.backbone.register_forward_hook(lambda m, args, out: frames.append(len(args[0])))
        model([triplet(frames=5), triplet(frames=4, size=(64, 64))])
        assert frames == [5, 4]

    def test_annotated_images_in_the_batch_are_left_alone(self, srn_cfg, factories):
        model = build(srn_cfg).train()
        images = factories.make_batch(factories.two_parts_one_parent())
        assert list(model([*images, triplet()])) == ["loss_mcl"]

    def test_a_batch_without_triplets(self, srn_cfg, factories):
        with pytest.raises(ConfigError, match="SRN_VIDEOS"):
            build(srn_cfg).train()(factories.make_batch(factories.two_parts_one_parent()))

    def test_what_is_logged(self, srn_cfg):
        with EventStorage() as storage:
            build(srn_cfg).train()([triplet()])
            logged = storage.latest()
        assert {"srn/similarity_positive", "srn/similarity_hardest_negative"} <= set(logged)


class TestJoint:
    def test_both_are_trained(self, srn_cfg, factories):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        model = build(srn_cfg).train()
        batch = [*factories.make_batch(factories.two_parts_one_parent()), triplet()]
        with EventStorage():
            losses = model(batch)
        assert {"loss_mcl", "loss_rpn_parent_cls", "loss_rpn_cls", "loss_mask"} <= set(losses)
        losses["loss_mcl"].backward(retain_graph=True)
        backbone = model.backbone.bottom_up.res4[0].conv1.weight
        assert backbone.grad.abs().sum() > 0  # L_mcl reaches the features
        assert model.roi_heads.box_predictor.cls_score.weight.grad is None
        sum(losses.values()).backward()
        assert model.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
        assert model.backbone.training

    def test_the_detectors_losses_are_those_without_srn(self, srn_cfg, factories):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        joint = build(srn_cfg).train()
        plain_cfg = srn_cfg.clone()
        plain_cfg.MODEL.SRN.ENABLED = False
        plain = build(plain_cfg).train()
        plain.load_state_dict(
            {k: v for k, v in joint.state_dict().items() if not k.startswith("srn.")}
        )
        images = factories.make_batch(factories.two_parts_one_parent())
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
    """With f and features given, so that the figures can be worked out."""

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
            features = model.backbone(model.preprocess_image([{"image": f} for f in frames]).tensor)
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
    @pytest.mark.parametrize("architecture", ["MSNet", "RefinableRCNN"])
    def test_frames_of_videos_carry_their_features(self, srn_cfg, architecture):
        srn_cfg.MODEL.META_ARCHITECTURE = architecture
        model = build(srn_cfg).eval()
        frames = video(2)
        del frames[1]["video_id"]
        with torch.no_grad():
            first, second = model(frames)
        assert FRAME_KEY in first
        assert FRAME_KEY not in second
        assert first[FRAME_KEY].image_size == (96, 128)
        assert len(first["instances"]) > 0

    def test_without_srn_it_is_detectron2s(self, tiny_cfg):
        tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
        models = []
        for name in ("RefinableRCNN", "GeneralizedRCNN"):
            tiny_cfg.MODEL.META_ARCHITECTURE = name
            models.append(build(tiny_cfg).eval())
        models[0].load_state_dict(models[1].state_dict())
        with torch.no_grad():
            ours, theirs = (model(video(1))[0] for model in models)
        assert list(ours) == list(theirs) == ["instances"]
        assert torch.equal(ours["instances"].scores, theirs["instances"].scores)
        assert torch.equal(
            ours["instances"].pred_boxes.tensor, theirs["instances"].pred_boxes.tensor
        )

    def test_the_embedding_of_a_frame_is_the_dense_ones(self, srn_cfg):
        """Through the whole model, with the output twice as large as the network's input."""
        model = build(srn_cfg).eval()
        frame = {**video(1)[0], "height": 192, "width": 256}
        with torch.no_grad():
            (output,) = model([frame])
            boxes = output["instances"].pred_boxes
            got = output[FRAME_KEY].embed(boxes, (192, 256))
            features = model.backbone(model.preprocess_image([frame]).tensor)
            half = boxes.clone()
            half.scale(0.5, 0.5)
            from detectron2.modeling.poolers import ROIPooler

            dense = model.srn(features)
            pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
            expected = pooler([dense[n] for n in model.srn.in_features], [half])
        assert torch.allclose(got, expected, atol=1e-4)


class TestRefinedModel:
    def stock(self, cfg):
        """Detectron2's own Mask R-CNN, and f trained elsewhere."""
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        return build(cfg).eval()

    @pytest.mark.parametrize("neighbour", ["previous", "next", "both"])
    def test_a_stock_mask_rcnn(self, srn_cfg, tmp_path, neighbour):
        model = self.stock(srn_cfg)
        srn_cfg.MODEL.SRN.NEIGHBOUR = neighbour
        srn_cfg.MODEL.SRN.SCORE_RANGE = (0.0, 1.0)
        f = ScoreRefinementNetwork(srn_cfg, model.backbone.output_shape())
        state = {f"srn.{k}": v for k, v in f.state_dict().items()}
        torch.save({"model": {"backbone.x": torch.zeros(1), **state}}, tmp_path / "srn.pth")

        refined = RefinedModel(model, load_srn(srn_cfg, model, tmp_path / "srn.pth"))
        outputs = list(refined.stream(video(3), ScoreRefiner(srn_cfg)))

        with torch.no_grad():
            plain = [model([frame])[0]["instances"] for frame in video(3)]
        assert len(outputs) == 3
        for output, raw in zip(outputs, plain):
            instances = output["instances"]
            assert torch.equal(instances.scores_raw, raw.scores)
            assert torch.equal(instances.pred_boxes.tensor, raw.pred_boxes.tensor)
            assert torch.equal(instances.pred_masks, raw.pred_masks)
            assert torch.equal(instances.pred_classes, raw.pred_classes)
        refined_frames = {"previous": {1, 2}, "next": {0, 1}, "both": {0, 1, 2}}[neighbour]
        for i, output in enumerate(outputs):
            has_match = not output["instances"].match_similarity.isnan().all()
            assert has_match == (i in refined_frames)

    def test_nothing_is_left_on_the_model(self, srn_cfg):
        model = self.stock(srn_cfg)
        refined = RefinedModel(
            model, ScoreRefinementNetwork(srn_cfg, model.backbone.output_shape())
        )
        with torch.no_grad():
            refined.eval()(video(2))
        assert not model.backbone._forward_hooks

    def test_f_of_another_shape(self, srn_cfg, tmp_path):
        model = self.stock(srn_cfg)
        path = tmp_path / "srn.pth"
        torch.save({"model": {"srn.layers.0.weight": torch.zeros(3, 32)}}, path)
        with pytest.raises(WeightsError, match="another f"):
            load_srn(srn_cfg, model, path)
        torch.save({"model": {"backbone.x": torch.zeros(3)}}, path)
        with pytest.raises(WeightsError, match=r"no weights srn\.\*"):
            load_srn(srn_cfg, model, path)
        path.write_text("not a checkpoint")
        with pytest.raises(WeightsError, match="cannot be read"):
            load_srn(srn_cfg, model, path)

    def test_maps_that_the_model_lacks(self, srn_cfg):
        model = self.stock(srn_cfg)
        f = ScoreRefinementNetwork(in_features=["p9"], in_channels=32, strides=[4])
        with pytest.raises(ConfigError, match=r"\['p9'\]"):
            RefinedModel(model, f)
        with pytest.raises(ConfigError, match="no attribute backbone"):
            RefinedModel(torch.nn.Linear(1, 1), f)


def test_each_parameter_belongs_to_the_detector_or_f(srn_cfg):
    parts = Counter(name.split(".")[0] for name, _ in build(srn_cfg).named_parameters())
    assert set(parts) == {"backbone", "proposal_generator", "roi_heads", "srn"}
    assert parts["srn"] == 4
