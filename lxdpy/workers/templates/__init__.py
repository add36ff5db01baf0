"""The template worker: renders templates of images, which anybody may have written."""
