"""What quality.py prints: observers and a table that shows them samples, and functions that make rows of what they saw.

============ ==============================================================================
rows         a row, its bar and verdict; the report that prints and writes rows
figures      distances, ratios and means of resampled samples, from which intervals are read
observers    what is seen of a sample beyond what the package's observers see
table        shows samples, real and generated, to observers, and keeps what these saw
pairs        rows of image-mask pairs, of any generator
seeds        rows of two generators in several training seeds
autoencoders rows of the first stage
conditions   rows of what a generator is asked for: class shares, images for given masks
labelling    rows of masks for given images, beside a U-Net
============ ==============================================================================
"""
