"""Shapes 3D: rendered scenes seen by several sensors (Table III). Its params are the root's."""
