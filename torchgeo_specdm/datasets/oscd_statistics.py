"""Mean and standard deviation of the bands of OSCD; reading them needs neither TorchGeo nor rasterio."""

# Over both dates of the 14 train cities, original release, all bands resampled to 10 m; digital numbers
MEAN = {
    'B01': 1570.7,
    'B02': 1365.5,
    'B03': 1284.8,
    'B04': 1298.9,
    'B05': 1431.0,
    'B06': 1860.9,
    'B07': 2082.0,
    'B08': 1994.9,
    'B8A': 2214.6,
    'B09': 641.4,
    'B10': 14.4,
    'B11': 1957.1,
    'B12': 1419.3,
}

STD = {
    'B01': 269.3,
    'B02': 414.1,
    'B03': 537.0,
    'B04': 764.7,
    'B05': 711.5,
    'B06': 745.5,
    'B07': 831.8,
    'B08': 865.6,
    'B8A': 902.3,
    'B09': 319.0,
    'B10': 8.7,
    'B11': 1007.3,
    'B12': 860.5,
}
