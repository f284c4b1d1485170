"""Images made elsewhere, for a trial of them

A class-conditional diffusion model of plain diffusers learns the labelled training images of a source, and what it
samples is written into a folder per class.

    python docs/made_elsewhere.py SOURCE FOLDER [--steps 2000] [--each 100]

Then: synaug run your-images -p source=SOURCE -p synthetic=FOLDER -p synthetic_seen=train
"""
import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image

from synaug.data.sources import load

SCHEDULE = DDIMScheduler(1000, beta_schedule='squaredcos_cap_v2', prediction_type='v_prediction')


def network(size, n_channels, n_classes):
    "A small UNet that is told the class"
    return UNet2DModel(
        sample_size=size,
        in_channels=n_channels,
        out_channels=n_channels,
        num_class_embeds=n_classes,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        down_block_types=('DownBlock2D', )*3,
        up_block_types=('UpBlock2D', )*3,
        norm_num_groups=8,
        add_attention=False,
    )


def trained(images, labels, net, steps, batch_size=16, learning_rate=1e-3):
    "The running average of the network's weights after so many steps on images `(N, C, H, W)` from -1 to 1"
    net.to(memory_format=torch.channels_last)
    average = EMAModel(net.parameters(), decay=.995)
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for step in range(steps):
        i = torch.randint(len(images), (batch_size, ))
        t = torch.randint(1000, (batch_size, ))
        noise = torch.randn_like(images[i])
        target = SCHEDULE.get_velocity(images[i], noise, t)
        noised = SCHEDULE.add_noise(images[i], noise, t)
        with torch.autocast('cpu', torch.bfloat16): velocity = net(noised, t, labels[i]).sample
        loss = (velocity.float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        average.step(net.parameters())
        if step % 250 == 0: print(f'step {step} of {steps}, loss {loss.item():.4f}', flush=True)
    average.copy_to(net.parameters())
    return net.eval()


@torch.no_grad()
def sampled(net, labels, steps=25):
    "Images `(N, H, W, C)` of 0 to 255 with these labels, by DDIM"
    x = torch.randn(len(labels), net.config.in_channels, *net.config.sample_size)
    SCHEDULE.set_timesteps(steps)
    for t in SCHEDULE.timesteps:
        with torch.autocast('cpu', torch.bfloat16): velocity = net(x, t, labels).sample
        x = SCHEDULE.step(velocity.float(), t, x).prev_sample
    return (x/2 + .5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('source')
    ask.add_argument('folder', type=Path)
    ask.add_argument('--steps', type=int, default=2000)
    ask.add_argument('--each', type=int, default=100, help='images per class')
    given = ask.parse_args()
    torch.manual_seed(0)
    train = load(given.source).train
    images, labels = torch.from_numpy(train.floats()), torch.from_numpy(train.labels.argmax(1))
    net = trained(images, labels, network(train.size, train.n_channels, train.n_classes), given.steps)
    for k, name in enumerate(train.classes):
        folder = given.folder/name.replace('/', '-')
        folder.mkdir(parents=True)
        made = sampled(net, torch.full((given.each, ), k))
        for i, image in enumerate(made): Image.fromarray(image.squeeze()).save(folder/f'{i:04d}.png')


if __name__ == '__main__': main()
