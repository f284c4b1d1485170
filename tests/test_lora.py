"""LoRA generator and its base against plain diffusers

Weights in both directions, SDXL, noise prediction, and what a user can get wrong
"""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synaug.data.images import ImageSet
from synaug.data.seen import seen
from synaug.errors import PipelineError, TrainingError
from synaug.generators.channels import ChannelMap
from synaug.generators.lora import (
    Denoiser, LoraGenerator, OrientedLatents, add_lora, encoded, load, save, targets, train_lora)
from synaug.generators.pipelines import generate, load_pipeline, quiet, with_solver
from synaug.generators.text_to_image import SmallDiffusion, make_autoencoder, make_tokenizer
from synaug.generators.text_to_image import save as save_base
from synaug.training import autocast

CLASSES = 'red_cell', 'blue_cell'
TINY = dict(size=16, widths=(16, 32), autoencoder_widths=(8, 16), text_width=16, autoencoder_steps=3, steps=3,
            progress=False)
FEW = dict(steps=3, rank=3, lr=1e-2, batch_size=4, progress=False)


def coloured(n=16, seed=0, dtype=np.uint8):
    "Two classes of 16 px pictures: reddish and bluish noise"
    rng, labels = np.random.default_rng(seed), np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    colour = np.array([[220, 60, 40], [40, 60, 220]])[labels.argmax(1)]
    images = (colour[:, None, None] + rng.normal(0, 12, (n, 16, 16, 3))).clip(0, 255)
    return ImageSet((images*(1 if dtype == np.uint8 else 16)).astype(dtype), labels, CLASSES, ('red', 'green', 'blue'))


def plain(folder, weights=None):
    "The pipeline as anybody loads it, with the sampler set as ours"
    from diffusers import DiffusionPipeline
    with quiet():
        pipe = DiffusionPipeline.from_pretrained(folder)
        if weights: pipe.load_lora_weights(weights)
    return pipe


def drawn(pipe, seed=0):
    "What a pipeline draws when called by its user, not by us"
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(seed)
    settings = dict(height=16, width=16, num_inference_steps=3, guidance_scale=2., output_type='np', generator=noise)
    with quiet(): return pipe(['a red cell', 'a blue cell'], **settings).images


def weights_of(net): return {k.replace('.base_layer', ''): v for k, v in net.state_dict().items() if 'lora_' not in k}


def same(a, b): return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def train(): return coloured()


@pytest.fixture(scope='module')
def base(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp('models')/'base'
    pools = [('a cell', coloured(seed=5)), ('noise', coloured(seed=6).unlabelled())]
    save_base(SmallDiffusion.fit(pools, **TINY), folder)
    return folder


@pytest.fixture(scope='module')
def xl(tmp_path_factory):
    "A tiny, randomly initialised SDXL pipeline folder"
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    torch.manual_seed(0)
    tokenizer = make_tokenizer(['a microscopy image, red cell', 'blue cell'])
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
        projection_dim=32, max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, in_channels=4,
        out_channels=4, attention_head_dim=(2, 4),
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'), up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
        use_linear_projection=True, addition_embed_type='text_time', addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=80, cross_attention_dim=64)
    scheduler = EulerDiscreteScheduler(beta_start=.00085, beta_end=.012, beta_schedule='scaled_linear', steps_offset=1,
                                       timestep_spacing='leading')
    folder = tmp_path_factory.mktemp('models')/'xl'
    with quiet():
        pipe = StableDiffusionXLPipeline(
            vae=make_autoencoder(16, (8, 16)), text_encoder=CLIPTextModel(text),
            text_encoder_2=CLIPTextModelWithProjection(text), tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet,
            scheduler=scheduler, add_watermarker=False)
        pipe.save_pretrained(folder)
    return folder


@pytest.mark.parametrize('text', [False, True])
@pytest.mark.parametrize('modules', ['attention', 'all'])
def test_plain_diffusers_draws_the_same_with_our_weights(train, base, tmp_path, modules, text):
    ours = LoraGenerator.fit(train, base, modules=modules, text=text, alpha=7, **FEW)
    save(ours, tmp_path/'lora')
    theirs = plain(base, tmp_path/'lora')
    assert np.array_equal(drawn(theirs), drawn(load(tmp_path/'lora').pipe))
    np.testing.assert_allclose(drawn(theirs), drawn(ours.pipe), atol=1e-5)      # weights at other addresses: last bits
    assert np.abs(drawn(theirs) - drawn(plain(base))).max() > 1e-3


def script_weights(base, folder, targets):
    "LoRA weights as diffusers' train_text_to_image_lora.py makes and writes them, moved from zero"
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    unet = plain(base).unet
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights='gaussian', target_modules=targets))
    with torch.no_grad():
        for k, p in unet.named_parameters():
            if 'lora_B' in k: p.normal_(0, .2, generator=torch.Generator().manual_seed(len(k)))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(save_directory=folder, unet_lora_layers=layers, safe_serialization=True)


def test_we_draw_the_same_as_plain_diffusers_with_weights_of_its_example_script(train, base, tmp_path):
    script_weights(base, tmp_path, ['to_k', 'to_q', 'to_v', 'to_out.0'])
    ours = LoraGenerator.from_weights(tmp_path, train, base)
    assert np.array_equal(drawn(ours.pipe), drawn(plain(base, tmp_path)))
    assert not np.array_equal(drawn(ours.pipe), drawn(plain(base)))
    assert (ours.rank, ours.alpha) == (4, 4)
    assert ours.sample(train.labels[:3], steps=2, progress=False).origin == ours.seen
    save(ours, tmp_path/'ours')
    assert np.array_equal(drawn(load(tmp_path/'ours').pipe), drawn(ours.pipe))


def test_weights_that_diffusers_would_read_in_part_are_refused(train, base, tmp_path):
    script_weights(base, tmp_path, targets['all'])          # attention in one layout, convolutions in another
    with pytest.raises(PipelineError, match='of which diffusers could use'):
        LoraGenerator.from_weights(tmp_path, train, base)


def test_weights_of_another_pipeline_are_refused(train, base, tmp_path):
    wider = tmp_path/'wider'
    save_base(SmallDiffusion.fit([('a cell', train)], **(TINY | dict(widths=(24, 48)))), wider)
    script_weights(wider, tmp_path/'weights', ['to_k', 'to_q'])
    with pytest.raises(PipelineError, match='do not fit this pipeline'):
        LoraGenerator.from_weights(tmp_path/'weights', train, base)
    with pytest.raises(PipelineError, match='found 0'): LoraGenerator.from_weights(tmp_path, train, base)


@pytest.mark.parametrize('text', [False, True])
def test_sdxl(train, xl, tmp_path, text):
    before = load_pipeline(xl)
    ours = LoraGenerator.fit(train, xl, modules='all', text=text, prior=2, prior_prompts=('a cell',), **FEW)
    for name in ('unet', 'vae', 'text_encoder', 'text_encoder_2'):
        assert same(weights_of(getattr(before, name)), weights_of(getattr(ours.pipe, name))), name
    samples = ours.sample(train.labels[:3], steps=3, progress=False)
    assert np.array_equal(samples.labels, train.labels[:3])
    assert samples.images.shape == (3, 16, 16, 3) and samples.images.std() > 0
    assert not ours.base_recorded and ours.seen == seen(train)
    save(ours, tmp_path/'lora')
    theirs = plain(xl, tmp_path/'lora')
    theirs.watermark = None
    with_solver(theirs)
    assert np.array_equal(drawn(theirs), drawn(load(tmp_path/'lora').pipe))
    np.testing.assert_allclose(drawn(theirs), drawn(ours.pipe), atol=1e-5)
    assert np.abs(drawn(theirs) - drawn(before)).max() > 1e-3


def test_sdxl_conditions_are_those_of_its_own_pipeline(xl):
    "The prediction that training compares with the noise is the one that the pipeline samples with"
    pipe, calls = load_pipeline(xl), []
    net = Denoiser(pipe, ['a red cell'])
    forward = pipe.unet.forward
    pipe.unet.forward = lambda x, t, **k: calls.append((x, t, k)) or forward(x, t, **k)
    settings = dict(height=16, width=16, num_inference_steps=2, guidance_scale=2., output_type='latent')
    with quiet(): pipe('a red cell', generator=torch.Generator().manual_seed(0), **settings)
    x, t, k = calls[0]
    theirs = forward(x, t, **{name: k[name] for name in ('encoder_hidden_states', 'added_cond_kwargs')}).sample
    pipe.unet.forward = forward
    with torch.no_grad(): ours = net(x, t, torch.tensor([-1, 0]))                # the empty prompt, then the prompt
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours[0], ours[1], atol=1e-4)


def test_idle_additions_leave_sdxl_as_it_is(train, xl):
    untouched = generate(load_pipeline(xl), ['a red cell'], (16, 16), steps=3, progress=False)
    for idle in (dict(rank=0), dict(alpha=0)):
        fitted = LoraGenerator.fit(train, xl, **(FEW | idle))
        assert torch.equal(generate(fitted.pipe, ['a red cell'], (16, 16), steps=3, progress=False), untouched)


@pytest.mark.parametrize('prediction', ['epsilon', 'v_prediction'])
def test_first_loss_is_the_weighted_error_of_the_base(train, base, tmp_path, prediction):
    "Before anything is learnt the loss is that of the base: its closed form, from diffusers' own scheduler"
    from diffusers import DDPMScheduler
    folder = Path(shutil.copytree(base, tmp_path/'base'))
    config = folder/'scheduler'/'scheduler_config.json'
    config.write_text(json.dumps(json.loads(config.read_text()) | dict(prediction_type=prediction)))
    rgb, size = ChannelMap.fitted(train.images).forward(train.images), 4
    latents = OrientedLatents(load_pipeline(folder), rgb)
    source = latents, torch.zeros(len(train), dtype=torch.long), 1.
    found = {}
    for gamma in (5., None):
        pipe = load_pipeline(folder)
        add_lora(pipe, 2, 2)
        settings = dict(gamma=gamma, p_drop=0., seed=3, progress=False)
        found[gamma] = train_lora(pipe, ['a cell'], [source], 1, size, **settings)[0][0]

    g, pipe = torch.Generator().manual_seed(3), load_pipeline(folder)
    schedule = DDPMScheduler.from_pretrained(folder, subfolder='scheduler')
    z, _ = latents.draw(g, size)
    eps, t = torch.randn(z.shape, generator=g), torch.randint(1000, (size,), generator=g)
    text = encoded(pipe, ['a cell'])[0].expand(size, -1, -1)
    with torch.no_grad(), autocast('cpu'):
        out = pipe.unet(schedule.add_noise(z, eps, t), t, encoder_hidden_states=text).sample.float()
    asked = dict(epsilon=eps, v_prediction=schedule.get_velocity(z, eps, t))[prediction]
    error = (out - asked).square().mean((1, 2, 3))
    snr = schedule.alphas_cumprod[t]/(1-schedule.alphas_cumprod[t])
    over = dict(epsilon=snr, v_prediction=snr+1)[prediction]
    assert found[None] == pytest.approx(error.mean().item(), rel=1e-3)
    assert found[5.] == pytest.approx((error*snr.clamp(max=5)/over).mean().item(), rel=1e-3)


def test_16_bit_single_channel_images_and_odd_sizes(base):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 4096, (8, 20, 24, 1)).astype(np.uint16)
    deep = ImageSet(images, np.eye(2, dtype=np.float32)[np.arange(8) % 2], CLASSES, ('grey',))
    samples = LoraGenerator.fit(deep, base, **FEW).sample(deep.labels[:3], steps=2, progress=False)
    assert samples.images.shape == (3, 20, 24, 1) and samples.images.dtype == np.uint16
    assert 255 < samples.images.max() <= 4095                   # within the range of the training images


@pytest.mark.parametrize('name', ['runwayml/stable-diffusion-v1-5', '/no/such/folder', 'nowhere'])
def test_a_base_that_cannot_be_had_is_named_with_the_way_out(train, monkeypatch, name):
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(PipelineError) as error: LoraGenerator.fit(train, name, **FEW)
    assert name in str(error.value) and 'give its folder' in str(error.value) and '\n' not in str(error.value)


def test_a_damaged_base_is_named(train, base, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path/'base'))
    (folder/'unet'/'diffusion_pytorch_model.safetensors').unlink()
    with pytest.raises(PipelineError, match='cannot be loaded'): LoraGenerator.fit(train, folder, **FEW)


def test_a_diverging_fit_is_named(train, base):
    with pytest.raises(TrainingError, match='diverged at step'):
        LoraGenerator.fit(train, base, **(FEW | dict(lr=float('inf'))))


def grey(level, seed):
    "32 pictures of grey noise about a level"
    images = np.random.default_rng(seed).normal(level, 12, (32, 16, 16, 1)).clip(0, 255).repeat(3, 3)
    return ImageSet(images.astype(np.uint8), None, (), ('red', 'green', 'blue'))


def redness(generator):
    "Mean of red - blue of eight pictures of either label"
    wanted = np.eye(2).repeat(8, 0)
    made = generator.sample(wanted, guidance=2., steps=8, progress=False).images.astype(float).mean((1, 2))
    return (made[:, 0] - made[:, 2]).reshape(2, 8)


@pytest.mark.slow
def test_labels_steer_what_is_drawn(tmp_path):
    """A base to which red and blue are two shades of grey learns by LoRA alone that they are colours.

    It must have heard both words: a base of one caption has learnt to ignore its text, and few steps do not undo it"""
    captioned = [('a microscopy image, red cell', grey(200, 1)), ('a microscopy image, blue cell', grey(60, 2))]
    longer = TINY | dict(autoencoder_steps=300, steps=300)
    save_base(SmallDiffusion.fit(captioned, **longer), tmp_path/'base')
    before = LoraGenerator.fit(coloured(32), tmp_path/'base', **(FEW | dict(rank=0)))
    assert np.abs(redness(before)).max() < 30
    settings = dict(steps=150, rank=8, modules='all', lr=3e-3, batch_size=8, progress=False)
    red, blue = redness(LoraGenerator.fit(coloured(32), tmp_path/'base', **settings))
    assert red.min() > 40 and blue.max() < -40
