"""What a trained model's quality depends on."""
