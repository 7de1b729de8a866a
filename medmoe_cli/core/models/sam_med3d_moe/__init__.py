"""SAM-Med3D-MoE: a general and specific mask decoders over one 3D encoder, a gate and a selector between them."""
