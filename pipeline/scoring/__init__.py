"""What a trained model is worth: decode, judge, count, resample."""
