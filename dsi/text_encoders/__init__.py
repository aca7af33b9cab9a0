"""Text to token ids: vocabularies, tokenizers of checkpoints, prompts."""
