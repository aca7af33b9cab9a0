"""The network: encoder-decoders, encoders with a decoder, decoder-only language models."""
