"""The SAM 2D encoder, prompt encoder and decoder, sized freely."""
