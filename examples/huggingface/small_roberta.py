"""Make and train a small RoBERTa with transformers alone, in place of one that you have."""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LENGTH = 128  # tokens


def train_tokenizer(text: Path, size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE, as RoBERTa has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(text)], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>"}
    names |= {"pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        **{f"{name}_token": token for name, token in names.items()},
    )


def mask(
    ids: torch.Tensor, tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels (B, T): 15 % are chosen, of which 80 % become <mask> and 10 % others."""
    chosen = torch.rand(ids.shape) < 0.15
    labels = ids.masked_fill(~chosen, -100)
    fate = torch.rand(ids.shape)
    inputs = ids.masked_fill(chosen & (fate < 0.8), tokenizer.mask_token_id)
    others = torch.randint(len(SPECIAL), len(tokenizer), ids.shape)
    return torch.where(chosen & (fate > 0.9), others, inputs), labels


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=800)
    args = parser.parse_args()
    torch.manual_seed(1)
    tokenizer = train_tokenizer(args.text, 8000)
    lines = args.text.read_text(encoding="utf-8").splitlines()
    lines = lines[: 40 * args.updates]  # as much as is shown
    stream = [
        i
        for ids in tokenizer(lines, add_special_tokens=False)["input_ids"]
        for i in (*ids, tokenizer.eos_token_id)
    ]
    blocks = torch.tensor(stream[: len(stream) // (LENGTH - 1) * (LENGTH - 1)])
    blocks = blocks.view(-1, LENGTH - 1)
    blocks = torch.cat([torch.full((len(blocks), 1), tokenizer.bos_token_id), blocks], dim=1)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            max_position_embeddings=LENGTH + 2,
            layer_norm_eps=1e-5,
            type_vocab_size=1,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    warmup = max(1, args.updates // 10)
    for update in range(args.updates):
        for group in optimizer.param_groups:
            rise, fall = (update + 1) / warmup, (args.updates - update) / args.updates
            group["lr"] = 1e-3 * min(rise, fall)
        inputs, labels = mask(blocks[torch.randint(len(blocks), (16,))], tokenizer)
        loss = model(inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 50 == 0 or update == args.updates - 1:
            print(f"update {update}: loss {loss.item():.3f}", flush=True)
    tokenizer.save_pretrained(args.out)
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
