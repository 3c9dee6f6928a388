"""Models: masked autoencoder, encoder, masks, pretrained weights, linear probe (docs/models.md)."""
