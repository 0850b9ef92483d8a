"""Small multimodal scenes (RGB, depth, radar, boxes) rendered by Blender. Import the submodules."""
