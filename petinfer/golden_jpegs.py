"""The colours of the golden JPEGs, against which a decoder is checked that gives other pixels than libjpeg-turbo.

Per photo: the mean red, green and blue of 4 x 4 parts of it, row by row, in hex. Decoders may round and upsample
differently, which moves these means by two levels at most; another order of the channels moves them by 50 and more.
"""

COLOURS = {
    "cat-cmyk.jpg": (
        "9d7a668d6547876347805f53946f557b5a3a9a755694796d92694e99694399693d977e72a17d68a3795e8b654fa48d82"
    ),
    "cat-grey.jpg": (
        "8282826d6d6d6a6a6a6767677878786161617c7c7c7f7f7f7272727373737373738484848585858282826e6e6e939393"
    ),
    "cat-lying.jpg": (
        "805f5293786c977e73a48d828662479b75569a693d8b654e8c65477b5a3a996943a3795d9d7a66956f5592694ea17d68"
    ),
    "cat-progressive-444.jpg": (
        "9d7a668c6547866347805e53956f557c5a3b9a755593786d92694e9969429a693e987e73a17c68a3795d8b654fa48d82"
    ),
    "cat.jpg": ("9d7a658c6547866347805e52956f557c5a3a9a755593786d92694e9969439a693e977e73a17d68a3795d8b654ea48d82"),
    "panorama-50-to-1.jpg": (
        "8460899167757384818074737a6f8d8c6e6e787d827e7c77678b94837a60826d85788a7f5e9a997e8159876587759183"
    ),
}
