"""A starting point for each kind of training: a schedule as text, and its source.

Lengths are fractions of the run, so that a text needs `total_steps`, or the steps of the source.
The peaks are those of the sources.
"""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """A schedule for a kind of training."""

    task: str
    optimizer: str
    text: str
    source: str
    words: str = ""  # other words for the task


PRESETS = (
    Preset(
        "pretraining a language model",
        "adamw",
        "warmup_cosine(3e-4, warmup_steps=min(5%, 2000), end_value=3e-5)",
        "Touvron et al. 2023 (Llama 2): 2,000 steps of warmup, a cosine to a tenth",
        "LLM GPT transformer",
    ),
    Preset(
        "pretraining a language model, the length may change",
        "adamw",
        "warmup_stable_decay(3e-4, warmup_steps=1%, decay_steps=10%)",
        "Hu et al. 2024 (MiniCPM): warmup, stable, and a decay over the last tenth",
        "LLM GPT transformer WSD",
    ),
    Preset(
        "fine-tuning a language model",
        "adamw",
        "bert(2e-5)",
        "Devlin et al. 2019 (BERT): a warmup, a linear decay, peaks of 2e-5 to 5e-5",
        "finetuning BERT LLM transformer",
    ),
    Preset(
        "fine-tuning with LoRA",
        "adamw",
        "warmup_linear(2e-4, warmup_steps=500)",
        "Hu et al. 2022 (LoRA): 500 steps of warmup, linear, 2e-4 for GPT-2",
        "finetuning adapter LLM",
    ),
    Preset(
        "a vision model with SGD",
        "sgd(momentum=0.9, nesterov=True)",
        "warmup_cosine(0.1, warmup_steps=5%)",
        "Goyal et al. 2017: 0.1 for 256 images, 5 of 90 epochs of warmup; He et al. 2019: cosine",
        "image classifier ResNet ImageNet CNN",
    ),
    Preset(
        "a vision transformer",
        "adamw(weight_decay=0.3)",
        "warmup_cosine(3e-3, warmup_steps=10000)",
        "Dosovitskiy et al. 2021 (ViT): on ImageNet, 10,000 steps of warmup and a cosine",
        "image classifier ViT ImageNet",
    ),
    Preset(
        "a small table",
        "adamw",
        "constant(1e-3) * reduce_on_plateau(factor=0.5, patience=10)",
        "the practice of `ReduceLROnPlateau`: a halving after ten validations without progress",
        "tabular regression classification MLP",
    ),
    Preset(
        "reinforcement learning",
        "adam(eps=1e-5)",
        "linear(2.5e-4, 0.0, 100%)",
        "Schulman et al. 2017 (PPO): for Atari, from 2.5e-4 linearly to zero",
        "RL PPO policy gradient",
    ),
    Preset(
        "reinforcement learning, continuous control",
        "adam(eps=1e-5)",
        "constant(3e-4) * kl_adaptive(0.01)",
        "Rudin et al. 2022: a rate adapted to a KL divergence of 0.01",
        "RL PPO robotics policy gradient",
    ),
    Preset(
        "a GAN",
        "adam(b1=0.5)",
        "constant(2e-4, 50%) >> linear(2e-4, 0.0, 50%)",
        "Zhu et al. 2017 (CycleGAN): constant, and then linearly to zero, in two halves",
        "generative adversarial network image",
    ),
    Preset(
        "a diffusion model",
        "adam",
        "warmup_constant(2e-4, warmup_steps=5000)",
        "Ho et al. 2020 (DDPM), its published code: 5,000 steps of warmup, then 2e-4",
        "generative image",
    ),
    Preset(
        "a physics-informed network (PINN)",
        "adam",
        "exponential_decay(1e-3, decay_rate=0.9, decay_steps=2000)",
        "Wang et al. 2023 (An expert's guide to training PINNs): nine tenths every 2,000 steps",
        "differential equation PDE physics",
    ),
    Preset(
        "machine translation",
        "adam(b2=0.98, eps=1e-9)",
        "noam(1.0, model_size=512, warmup_steps=4000)",
        "Vaswani et al. 2017, section 5.3: 4,000 steps of warmup, then the inverse square root",
        "encoder decoder transformer sequence",
    ),
    Preset(
        "as fast as possible",
        "sgd(momentum=0.9)",
        "one_cycle(0.1)",
        "Smith and Topin 2017 (super-convergence); fastai's shape",
        "one cycle super-convergence",
    ),
    Preset(
        "an ensemble from one run",
        "sgd(momentum=0.9)",
        "cosine(0.1, 0.0, 20%).cycle(cycles=5)",
        "Huang et al. 2017 (snapshot ensembles): warm restarts of equal length",
        "snapshot SGDR warm restarts",
    ),
)


def presets(word: str = "") -> list[Preset]:
    """Return the presets that contain all words of a text, in any case."""
    wanted = word.lower().replace("-", " ").split()

    def found(x: Preset) -> bool:
        known = f"{x.task} {x.words}".lower().replace("-", " ")
        return all(part in known for part in wanted)

    return [x for x in PRESETS if found(x)]


def shown(found: list[Preset]) -> str:
    """Return presets as text: the task, the schedule, the optimizer and the source."""
    return "\n\n".join(
        f"{x.task}\n  {x.text}\n      with {x.optimizer}. {x.source}." for x in found
    )
