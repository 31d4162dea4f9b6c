"""The operations under the layers. `choice` decides which path each one takes."""
