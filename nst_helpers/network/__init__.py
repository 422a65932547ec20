"""Image to feature maps: VGG's layout, and where its weights come from."""
